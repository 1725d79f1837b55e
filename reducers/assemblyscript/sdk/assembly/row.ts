// What a reducer declares: structs (messages, params, groups of fields) and rows of tables, each with one method that
// names its fields in order. That method is all there is to reading, writing and describing them.

import { Fields } from "./fields";

/** A group of fields. Every class needs defaults for all its fields, so that `new T()` makes one. */
export abstract class Struct {
  /** Name each field in order, and give it back: `this.x = f.i32("x", this.x);` */
  abstract fields(f: Fields): void;
}

/** A row of a table; its leading fields are the key. */
export abstract class Row extends Struct {
  /** Of the table. */
  abstract table(): string;

  /** How many leading fields form the primary key. */
  key(): i32 {
    return 1;
  }

  indexes(_on: Indexes): void {}

  /** Whether the database keeps every version of the rows. */
  history(): bool {
    return false;
  }
}

/** A value that may be missing: `Box<i32> | null`. */
export class Box<T> {
  constructor(public value: T) {}
}

/** The indexes of a table, in order. */
export class Indexes {
  names: string[] = [];
  columns: string[][] = [];
  uniques: bool[] = [];

  on(name: string, columns: string[]): Indexes {
    return this.add(name, columns, false);
  }

  /** No two rows may agree in all these columns. */
  unique(name: string, columns: string[]): Indexes {
    return this.add(name, columns, true);
  }

  private add(name: string, columns: string[], unique: bool): Indexes {
    this.names.push(name);
    this.columns.push(columns);
    this.uniques.push(unique);
    return this;
  }
}
