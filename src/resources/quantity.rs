//! The value of a Kubernetes quantity: `1Gi` and `1024Mi` are the same size.

/// The value in billionths, the finest unit of Kubernetes. `None` for a text that is not a quantity.
pub fn nanos(text: &str) -> Option<i128> {
    let number_ends = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(number_ends);
    let (two, ten): (u32, i32) = match suffix {
        "" => (0, 0),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        exponent => (0, exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // Rust parses the sign and refuses a number without digits.
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let value = digits.checked_mul(1 << two)?;
    let ten = ten.checked_add(9)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let power = 10_i128.checked_pow(ten.unsigned_abs())?;
    // Kubernetes rounds up finer values than a billionth.
    if ten >= 0 {
        value.checked_mul(power)
    } else {
        Some(value.div_euclid(power) + i128::from(value.rem_euclid(power) > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::nanos;

    #[test]
    fn equal_sizes_have_equal_values() {
        for (one, other) in [
            ("1Gi", "1024Mi"),
            ("1.5Gi", "1536Mi"),
            ("1", "1000m"),
            ("0.1", "100m"),
            ("1e3", "1k"),
            ("12E-1", "1200m"),
            ("1E", "1000P"),
            (".5", "500m"),
            ("+2.", "2"),
            ("0.1n", "1n"),
            ("-1", "-1000m"),
        ] {
            assert!(nanos(one).is_some(), "{one}");
            assert_eq!(nanos(one), nanos(other), "{one} {other}");
        }
        assert_ne!(nanos("1G"), nanos("1Gi"));
        assert!(nanos("9Gi") < nanos("10Gi"));
        assert!(nanos("8Ei").is_some());
    }

    #[test]
    fn what_is_no_quantity_has_no_value() {
        for text in [
            "",
            "Gi",
            "1Gx",
            "1 Gi",
            "1Gi ",
            "1.2.3",
            "1.-5",
            "abc",
            "1e",
            "1ee3",
            "--1",
            "1e99999",
            "1e2147483647",
        ] {
            assert_eq!(nanos(text), None, "{text:?}");
        }
    }
}
