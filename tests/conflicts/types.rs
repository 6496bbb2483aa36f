//! Every type that MySQL allows in a key, and every unique index that it knows: a conflict is found, taken and settled.

use crate::ring::Ring;

/// Type of a column, and a value of it on which two members disagree what belongs to it.
const KEYS: [(&str, &str); 54] = [
    ("BOOL", "TRUE"),
    ("TINYINT", "-128"),
    ("TINYINT UNSIGNED", "255"),
    ("SMALLINT", "-32768"),
    ("SMALLINT UNSIGNED", "65535"),
    ("MEDIUMINT", "-8388608"),
    ("MEDIUMINT UNSIGNED", "16777215"),
    ("INT", "0"),
    ("INT UNSIGNED", "4294967295"),
    ("BIGINT", "-9223372036854775808"),
    ("BIGINT UNSIGNED", "18446744073709551615"),
    ("BIT(1)", "b'1'"),
    ("BIT(20)", "b'10000000000000000001'"),
    ("BIT(64)", "X'8000000000000001'"),
    ("DECIMAL(5, 0)", "0"),
    ("DECIMAL(5, 2)", "-0.50"),
    ("DECIMAL(65, 30)", "-12345.000000000000000000000000000001"),
    ("FLOAT", "1.1"),
    ("FLOAT", "-3.4e38"),
    ("DOUBLE", "1.1"),
    ("DOUBLE", "1.7976931348623157e308"),
    ("DOUBLE", "-2.2250738585072014e-308"),
    ("DATE", "'1000-01-01'"),
    ("DATE", "'0000-00-00'"),
    ("DATE", "'2026-00-00'"),
    ("TIME", "'-838:59:59'"),
    ("TIME(1)", "'00:00:00.1'"),
    ("TIME(6)", "'-01:02:03.000004'"),
    ("DATETIME", "'2026-11-29 00:00:00'"),
    ("DATETIME", "'0000-00-00 00:00:00'"),
    ("DATETIME(3)", "'2026-11-29 12:34:56.100'"),
    ("DATETIME(6)", "'9999-12-31 23:59:59.000001'"),
    ("TIMESTAMP", "'2026-11-29 12:34:56'"),
    ("TIMESTAMP(2)", "'2026-11-29 12:34:56.90'"),
    ("TIMESTAMP(6)", "'1970-01-01 00:00:01.000001'"),
    ("TIMESTAMP", "'0000-00-00 00:00:00'"),
    ("YEAR", "2026"),
    ("YEAR", "0"),
    ("CHAR(10)", "'a  '"),
    ("CHAR(10) CHARACTER SET latin1", "'é'"),
    ("CHAR(10) CHARACTER SET utf16", "'ü '"),
    ("VARCHAR(50)", "'Grüße  '"),
    ("VARCHAR(50) COLLATE utf8mb4_bin", "''"),
    (
        "VARCHAR(300) CHARACTER SET latin1 COLLATE latin1_general_cs",
        "'it''s \\\\ \"'",
    ),
    ("VARCHAR(50) CHARACTER SET sjis", "'表'"),
    ("VARCHAR(50) CHARACTER SET gb18030", "'中'"),
    ("BINARY(16)", "X'0191D3C4B5A67788990011223344AA00'"),
    ("BINARY(4)", "X'00000000'"),
    ("VARBINARY(20)", "X'00FF00'"),
    ("ENUM('a', 'b')", "'b'"),
    ("ENUM('a', 'b')", "''"),
    ("SET('x', 'y', 'z')", "'x,z'"),
    ("SET('x')", "''"),
    ("VARCHAR(64) CHARACTER SET ascii", "'0191d3c4-b5a6-7788'"),
];

/// Definition of a table but for `id` and `who`; columns and values in which two rows exclude each other.
const INDEXES: [(&str, &str, &str); 12] = [
    // What no key can be of.
    (
        "a INT UNIQUE, b JSON, c POINT, d VECTOR(3), e LONGTEXT, f MEDIUMBLOB",
        "a, b, c, d, e, f",
        "7, JSON_OBJECT('who', who, 'n', 1.5), POINT(1, 2), TO_VECTOR('[1, 2.5, -3]'), REPEAT(who, 20000), REPEAT(X'00FF', 40000)",
    ),
    ("a INT, b VARCHAR(20), UNIQUE (b, a)", "a, b", "1, 'x'"),
    ("a INT, UNIQUE (a DESC)", "a", "7"),
    ("a INT, UNIQUE (a) INVISIBLE", "a", "7"),
    ("a VARCHAR(50), UNIQUE (a(3))", "a", "CONCAT('äbc', who)"),
    ("a TEXT, UNIQUE (a(3))", "a", "CONCAT('abc', who)"),
    ("a BLOB, UNIQUE (a(3))", "a", "CONCAT(X'00FF00', CAST(who AS BINARY))"),
    ("a INT, b INT AS (a + 1) VIRTUAL UNIQUE", "a", "7"),
    ("a INT, b INT AS (a + 1) STORED UNIQUE", "a", "7"),
    (
        "a VARCHAR(20), UNIQUE ((LOWER(a)))",
        "a",
        "IF(who = 'zero', 'Anna', 'aNNA')",
    ),
    (
        "a VARCHAR(20), b DATETIME(3), UNIQUE ((CONCAT(a, '''', YEAR(b))), a)",
        "a, b",
        "'x', '2026-11-29 12:00:00.5'",
    ),
    ("a VARCHAR(20), UNIQUE (a)", "a", "IF(who = 'zero', 'Anna', 'aNNA')"),
];

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn a_key_of_any_type_is_found() {
    let Some(mut ring) = Ring::new(27, "{policy: Prefer, prefer: [0, 1, 2]}").await else {
        return;
    };
    let mut tables = "SET sql_mode = ''; CREATE DATABASE d; ".to_owned();
    let mut writes = "SET sql_mode = '', @who = 'WHO'; BEGIN; ".to_owned();
    let mut found = Vec::new();
    for (number, (type_, value)) in KEYS.iter().enumerate() {
        // As the primary key, and in another unique index of rows with other keys.
        tables.push_str(&format!(
            "CREATE TABLE d.p{number} (k {type_}, who VARCHAR(9), PRIMARY KEY (k)); \
             CREATE TABLE d.u{number} (id VARBINARY(9), k {type_}, who VARCHAR(9), PRIMARY KEY (id), UNIQUE (k)); "
        ));
        writes.push_str(&format!(
            "INSERT INTO d.p{number} VALUES ({value}, @who); INSERT INTO d.u{number} VALUES (@who, {value}, @who); "
        ));
        found.extend(["p", "u"].map(|kind| format!("{kind}{number}")));
    }
    for (number, (definition, columns, values)) in INDEXES.iter().enumerate() {
        tables.push_str(&format!(
            "CREATE TABLE d.i{number} (id VARCHAR(9) PRIMARY KEY, who VARCHAR(9), {definition}); "
        ));
        let values = values.replace("who", "@who");
        writes.push_str(&format!(
            "INSERT INTO d.i{number} (id, who, {columns}) VALUES (@who, @who, {values}); "
        ));
        found.push(format!("i{number}"));
    }
    // Two texts that are one key to the collation.
    tables.push_str("CREATE TABLE d.c (k VARCHAR(20) PRIMARY KEY, who VARCHAR(9)); ");
    writes.push_str("INSERT INTO d.c VALUES (IF(@who = 'zero', 'Anna', 'aNNA'), @who); ");
    found.push("c".into());
    ring.run(0, &tables).await;
    ring.in_step().await;
    writes.push_str("COMMIT");
    ring.apart(&writes.replace("WHO", "zero"), &writes.replace("WHO", "one"))
        .await;
    // The conditions are from an earlier pass.
    ring.cluster.status.as_mut().unwrap().conditions.clear();
    ring.until("all is settled, or a person is asked", |ring| {
        ring.is_settled() || ring.message().contains("for a person")
    })
    .await;
    assert!(ring.is_settled(), "{}", ring.message());
    ring.in_step().await;
    for table in found {
        let rows = ring
            .everywhere(&format!("SELECT GROUP_CONCAT(who) FROM d.{table}"))
            .await;
        assert_eq!(rows, ["zero"; 3], "{table}");
    }
    what_cannot_be_found_is_told_by_name(&mut ring).await;
}

async fn what_cannot_be_found_is_told_by_name(ring: &mut Ring) {
    let table = "CREATE TABLE d.m (id VARCHAR(9) PRIMARY KEY, a JSON, UNIQUE ids ((CAST(a AS UNSIGNED ARRAY))))";
    ring.run(0, table).await;
    ring.in_step().await;
    ring.apart(
        "INSERT INTO d.m VALUES ('zero', '[1, 2]')",
        "INSERT INTO d.m VALUES ('one', '[2, 3]')",
    )
    .await;
    let index = "cannot be found by the unique index ids of d.m: it is over the elements of an array";
    ring.until("both members name the index", |ring| {
        ring.message().matches(index).count() == 2
    })
    .await;
    // A person gives each row elements that the other one has not.
    ring.run(
        0,
        "UPDATE d.m SET a = '[1]' WHERE id = 'zero'; START REPLICA SQL_THREAD",
    )
    .await;
    ring.run(1, "UPDATE d.m SET a = '[3]' WHERE id = 'one'; START REPLICA SQL_THREAD")
        .await;
    ring.until_settled().await;
    let rows = ring.everywhere("SELECT GROUP_CONCAT(id, a ORDER BY id) FROM d.m").await;
    assert_eq!(rows, ["one[3],zero[1]"; 3]);
    let index = "functional_index of d.e: a enum has no literal";
    ring.run(
        0,
        "CREATE TABLE d.e (id INT PRIMARY KEY, s ENUM('a', 'b'), n INT, UNIQUE ((CONCAT(s, n))))",
    )
    .await;
    ring.in_step().await;
    ring.apart(
        "BEGIN; INSERT INTO d.e VALUES (1, 'a', 7); SAVEPOINT here; INSERT INTO d.e VALUES (2, 'a', 8); COMMIT",
        "INSERT INTO d.e VALUES (1, 'b', 7), (3, 'a', 7)",
    )
    .await;
    ring.until("both members are told", |ring| {
        ring.message().matches(index).count() == 2
    })
    .await;
    assert_eq!(
        ring.value(1, "SELECT COUNT(*) FROM d.e").await,
        "2",
        "no row was deleted"
    );
}
