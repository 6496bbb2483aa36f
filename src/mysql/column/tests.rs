use super::*;

fn column(data_type: &str) -> Column {
    Column {
        name: "c".into(),
        data_type: data_type.into(),
        octets: 4,
        ..Column::default()
    }
}

#[test]
fn a_value_that_was_selected_is_the_value_of_the_binary_log() {
    let bytes = |text: &str| Cell::Bytes(encoded(text));
    for (data_type, logged, selected) in [
        ("binary", Cell::Bytes("AB".into()), "AB000000"),
        ("binary", Cell::Bytes(String::new()), "00000000"),
        ("bit", Cell::Bytes("0102".into()), "258"),
        ("set", Cell::Bytes("0102".into()), "513"),
        ("float", Cell::Other("1.1".into()), "1.100000023841858"),
        ("float", Cell::Other("-0.00001".into()), "-9.999999747378752e-6"),
        ("double", Cell::Other(format!("{}", 1e300)), "1e300"),
        ("mediumint", Cell::Number("8388608".into()), "-8388608"),
        ("mediumint", Cell::Number("16777215".into()), "-1"),
        ("mediumint", Cell::Number("8388607".into()), "8388607"),
        ("year", bytes("1900"), "0000"),
        ("year", bytes("2026"), "2026"),
        ("decimal", bytes("-000.50"), "-0.50"),
        ("decimal", bytes("0"), "0"),
        ("decimal", bytes("0012"), "12"),
        ("timestamp", bytes("12.500000"), "12.50"),
        ("timestamp", bytes("12"), "12.000000"),
        ("datetime", Cell::Time("2026-11-29".into()), "2026-11-29 00:00:00.000"),
        (
            "datetime",
            Cell::Time("2026-11-29 00:00:00.100000".into()),
            "2026-11-29 00:00:00.100",
        ),
        ("time", Cell::Time("-001:02:03.500000".into()), "-01:02:03.5"),
        ("time", Cell::Time("838:59:59".into()), "838:59:59"),
        ("time", Cell::Time("000:00:00".into()), "00:00:00.00"),
    ] {
        let column = column(data_type);
        assert_eq!(
            column.canonical(&logged),
            column.read(selected.into()),
            "{data_type} {selected}"
        );
    }
}

#[test]
fn a_value_becomes_sql_that_finds_it() {
    let bytes = |text: &str| Cell::Bytes(encoded(text));
    for (data_type, cell, expected) in [
        ("float", Cell::Other("1.1".into()), "CAST(1.1e0 AS FLOAT)"),
        ("double", Cell::Other("-2.5".into()), "-2.5e0"),
        ("bit", Cell::Bytes("80".into()), "128"),
        ("timestamp", bytes("0"), "'0000-00-00 00:00:00'"),
        ("timestamp", bytes("12.5"), "FROM_UNIXTIME(12.5)"),
        ("binary", Cell::Bytes("AB".into()), "X'AB000000'"),
        ("year", bytes("1900"), "0000"),
    ] {
        assert_eq!(column(data_type).sql(&cell).unwrap(), expected);
    }
    assert!(column("json").sql(&Cell::Other("{}".into())).is_err());
    assert!(column("geometry").sql(&Cell::Bytes("00".into())).is_err());
    assert!(column("bit").sql(&Cell::Bytes("00".repeat(9))).is_err());
}

#[test]
fn a_typed_value_has_collation_and_fraction() {
    let text = Column {
        character_set: Some("utf8mb4".into()),
        collation: Some("utf8mb4_bin".into()),
        ..column("varchar")
    };
    assert_eq!(
        text.typed(&Cell::Bytes("61".into())).unwrap(),
        "_utf8mb4 X'61' COLLATE utf8mb4_bin"
    );
    let time = Column {
        fraction: 3,
        ..column("datetime")
    };
    let cell = Cell::Time("2026-11-29".into());
    assert_eq!(time.typed(&cell).unwrap(), "CAST('2026-11-29' AS DATETIME(3))");
    assert_eq!(time.typed(&Cell::Null).unwrap(), "NULL");
    assert!(column("enum").typed(&Cell::Number("1".into())).is_err());
}

#[test]
fn texts_are_one_value_by_their_weights() {
    let weights = |collation: &str| {
        let column = Column {
            character_set: Some("utf8mb4".into()),
            collation: Some(collation.into()),
            ..column("varchar")
        };
        column.weights(&Cell::Bytes("61".into())).unwrap().unwrap_or_default()
    };
    assert_eq!(
        weights("utf8mb4_0900_ai_ci"),
        "HEX(WEIGHT_STRING(_utf8mb4 X'61' COLLATE utf8mb4_0900_ai_ci))"
    );
    assert_eq!(
        weights("utf8mb4_bin"),
        "HEX(WEIGHT_STRING(RTRIM(_utf8mb4 X'61' COLLATE utf8mb4_bin)))"
    );
    assert_eq!(weights("utf8mb4_0900_bin"), "");
    assert_eq!(column("bigint").weights(&Cell::Number("1".into())), Ok(None));
    let choice = Column {
        collation: Some("utf16_general_ci".into()),
        ..column("enum")
    };
    assert_eq!(choice.weights(&Cell::Number("1".into())), Ok(None));
}

#[test]
fn a_prefix_is_of_characters_or_of_bytes() {
    let text = Column {
        character_set: Some("utf8mb4".into()),
        ..column("varchar")
    };
    assert_eq!(text.cut(Cell::Bytes(encoded("äbc")), 2), Cell::Bytes(encoded("äb")));
    assert_eq!(
        column("blob").cut(Cell::Bytes("00FF01".into()), 2),
        Cell::Bytes("00FF".into())
    );
    let other = Column {
        character_set: Some("sjis".into()),
        ..column("char")
    };
    assert_eq!(other.cut(Cell::Bytes("955C61".into()), 1), Cell::Bytes("955C61".into()));
}

#[test]
fn a_record_that_was_tampered_with_does_not_become_sql() {
    for cell in [
        Cell::Number("1 OR 1=1".into()),
        Cell::Number(String::new()),
        Cell::Bytes("00') OR (1=1".into()),
        Cell::Bytes("0".into()),
        Cell::Other("nan".into()),
        Cell::Other("1) OR (1".into()),
    ] {
        for data_type in [
            "bigint",
            "varchar",
            "timestamp",
            "decimal",
            "float",
            "double",
            "bit",
            "set",
            "year",
        ] {
            assert!(column(data_type).sql(&cell).is_err(), "{cell:?} as {data_type}");
        }
    }
    let time = column("datetime").sql(&Cell::Time("2026-01-01' OR '1".into())).unwrap();
    assert_eq!(time, r"'2026-01-01\' OR \'1'");
    let set = Column {
        character_set: Some("latin1 X".into()),
        ..column("char")
    };
    assert_eq!(set.sql(&Cell::Bytes("61".into())).unwrap(), "_binary X'61'");
}
