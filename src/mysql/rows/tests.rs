use super::*;

fn column(name: &str, data_type: &str, character_set: Option<&str>) -> Column {
    Column {
        name: name.into(),
        data_type: data_type.into(),
        character_set: character_set.map(Into::into),
        collation: character_set.map(|set| format!("{set}_bin")),
        ..Column::default()
    }
}

fn unique(parts: Vec<Part>) -> Unique {
    Unique {
        name: "u".into(),
        parts,
    }
}

fn orders() -> Table {
    Table {
        schema: "shop".into(),
        name: "orders".into(),
        columns: vec![
            column("id", "bigint", None),
            column("code", "varchar", Some("latin1")),
            column("doc", "json", None),
        ],
        primary: Some(unique(vec![Part::Column(0)])),
        unique: vec![unique(vec![Part::Column(1)])],
    }
}

fn row() -> Vec<Cell> {
    vec![
        Cell::Number("-7".into()),
        Cell::Bytes("E427".into()),
        Cell::Other("{}".into()),
    ]
}

#[test]
fn a_row_is_found_by_its_key_and_by_what_it_excludes() {
    let key = orders().key(&row()).unwrap();
    assert_eq!(key.to_string(), "shop.orders (id=-7)");
    assert_eq!(orders().finds(&key).unwrap(), "`id` = -7");
    assert_eq!(orders().excluded_by(&row()).conditions, ["`code` = _latin1 X'E427'"]);
    let without = vec![Cell::Number("1".into()), Cell::Null, Cell::Null];
    assert_eq!(
        orders().excluded_by(&without),
        Excluded::default(),
        "NULL excludes nothing"
    );
    assert_eq!(
        orders().excluded_by(&[]),
        Excluded::default(),
        "a deleted row excludes nothing"
    );
    let selected = orders().read_key(vec!["-7".into()]).unwrap();
    assert_eq!(selected, key);
    assert_eq!(orders().selected_key().unwrap(), ["CAST(`id` AS CHAR) AS k0"]);
}

#[test]
fn an_index_may_be_over_prefixes_and_expressions() {
    let mut table = orders();
    table.primary = Some(unique(vec![Part::Prefix(1, 1)]));
    assert!(table.key(&row()).unwrap_err().contains("text in latin1"));
    table.columns[1] = column("code", "blob", None);
    let key = table.key(&row()).unwrap();
    assert_eq!(key.columns, [("code".to_owned(), Cell::Bytes("E4".into()))]);
    let start = "LEFT(X'E4', 1)";
    let expected =
        format!("`code` BETWEEN {start} AND CONCAT({start}, REPEAT(X'FF', 4)) AND LEFT(`code`, 1) = {start}");
    assert_eq!(table.finds(&key).unwrap(), expected);
    table = orders();

    table.unique = vec![
        unique(vec![Part::Expression("lower(`code`)".into()), Part::Column(0)]),
        unique(vec![Part::Expression(
            "cast(json_extract(`doc`,_utf8mb4'$') as unsigned array)".into(),
        )]),
    ];
    let excluded = table.excluded_by(&row());
    let image = "SELECT _latin1 X'E427' COLLATE latin1_bin AS `code`";
    let expected = format!("(lower(`code`)) = (SELECT lower(`code`) FROM ({image}) AS image) AND `id` = -7");
    assert_eq!(excluded.conditions, [expected]);
    assert_eq!(
        excluded.unknown,
        ["u of shop.orders: it is over the elements of an array"]
    );
}

#[test]
fn an_id_is_the_same_for_the_same_row_only() {
    let id = |number: &str| {
        let mut row = row();
        row[0] = Cell::Number(number.into());
        orders().key(&row).unwrap().id()
    };
    assert_eq!(id("7"), id("7"));
    assert_ne!(id("7"), id("8"));
    assert_eq!(id("7").len(), 8);
}

#[test]
fn a_row_without_a_usable_key_is_an_error() {
    let mut table = orders();
    table.primary = Some(unique(vec![Part::Column(2)]));
    assert!(table.key(&row()).unwrap_err().contains("json"));
    table.primary = None;
    assert!(table.key(&row()).unwrap_err().contains("no primary key"));
    assert!(orders().key(&row()[..2]).unwrap_err().contains("3 columns here and 2"));
}
