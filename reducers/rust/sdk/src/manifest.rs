//! The manifest document, written from the same declarations that the code uses.
#![allow(missing_docs)]

use crate::arena;

/// A column or a message's field.
#[derive(Clone, Copy)]
pub struct FieldInfo {
    pub name: &'static str,
    pub of: &'static str,
    pub nullable: bool,
}

/// An index.
#[derive(Clone, Copy)]
pub struct IndexInfo {
    pub name: &'static str,
    pub columns: &'static [&'static str],
    pub unique: bool,
}

/// A table.
#[derive(Clone, Copy)]
pub struct TableInfo {
    pub name: &'static str,
    pub columns: &'static [FieldInfo],
    pub key: usize,
    pub indexes: &'static [IndexInfo],
    pub history: bool,
}

/// A named selection of columns.
#[derive(Clone, Copy)]
pub struct ViewInfo {
    pub name: &'static str,
    pub table: &'static str,
    pub columns: &'static [&'static str],
}

/// A message.
#[derive(Clone, Copy)]
pub struct MessageInfo {
    pub name: &'static str,
    pub fields: &'static [FieldInfo],
}

/// The whole app.
pub struct AppInfo {
    pub name: &'static str,
    pub version: &'static str,
    pub tables: &'static [TableInfo],
    pub views: &'static [ViewInfo],
    pub messages: &'static [MessageInfo],
}

fn text(text: &str) {
    arena::push(text.as_bytes());
}

fn pair(name: &str, value: &str) {
    for part in ["\"", name, "\":\"", value, "\""] {
        text(part);
    }
}

fn list<T>(name: &str, items: &[T], item: impl Fn(&T)) {
    for part in [",\"", name, "\":["] {
        text(part);
    }
    for (index, value) in items.iter().enumerate() {
        text(if index == 0 { "" } else { "," });
        item(value);
    }
    text("]");
}

fn names(name: &str, items: &[&str]) {
    list(name, items, |item| {
        for part in ["\"", item, "\""] {
            text(part);
        }
    });
}

fn field(field: &FieldInfo) {
    text("{");
    pair("name", field.name);
    text(",");
    pair("type", field.of);
    text(if field.nullable { ",\"nullable\":true}" } else { "}" });
}

fn table(table: &TableInfo) {
    text("{");
    pair("name", table.name);
    list("columns", table.columns, field);
    arena::format(core::format_args!(",\"key\":{}", table.key)); // appends where it formats
    list("indexes", table.indexes, |index| {
        text("{");
        pair("name", index.name);
        names("columns", index.columns);
        text(if index.unique { ",\"unique\":true}" } else { ",\"unique\":false}" });
    });
    text(if table.history { ",\"history\":true}" } else { "}" });
}

/// JSON of the app, as `scapp_manifest` returns it.
pub fn document(app: &AppInfo) -> &'static [u8] {
    let start = arena::mark();
    text("{");
    pair("name", app.name);
    text(",");
    pair("version", app.version);
    text(",\"abi\":\"scapp_1\",\"encoding\":\"msgpack\"");
    list("tables", app.tables, table);
    list("views", app.views, |view| {
        text("{");
        pair("name", view.name);
        text(",");
        pair("table", view.table);
        names("columns", view.columns);
        text("}");
    });
    list("messages", app.messages, |message| {
        text("{");
        pair("name", message.name);
        list("fields", message.fields, field);
        text("}");
    });
    text("}");
    arena::since(start)
}
