import Postgres
import SQL

/// A restored table, as far as its rows are concerned.
struct StoredTable: Sendable {
    /// The table in the backup.
    let table: FetchedTable
    /// Whether the table has rows of its own. A partitioned table has none.
    let hasRows: Bool
    /// The columns that are not generated.
    let columns: [String]
    /// The partitioned tables above the table, the root last.
    let ancestors: [FetchedTable]
    /// Whether rows may belong to another partition in another database, because the partition key is hashed or
    /// compared by OIDs. The values of an enum, for example, have other OIDs, and thus other hashes, in each database.
    let isRerouted: Bool

    /// Reads the tables from the scratch server.
    static func read(_ tables: [FetchedTable], on connection: isolated Connection) throws -> [StoredTable] {
        let above = "pg_partition_ancestors(c.oid) WITH ORDINALITY AS above (id, level)"
        let rows = try connection.query(
            """
            SELECT n.nspname::text, c.relname::text, c.relkind = 'r',
                ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
                    AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum),
                ARRAY(SELECT s.nspname::text FROM \(above) JOIN pg_class p ON p.oid = above.id
                    JOIN pg_namespace s ON s.oid = p.relnamespace WHERE above.id <> c.oid ORDER BY above.level),
                ARRAY(SELECT p.relname::text FROM \(above) JOIN pg_class p ON p.oid = above.id
                    WHERE above.id <> c.oid ORDER BY above.level),
                \(DatabaseContent.isRoutedByOID)
            FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w (schema, name, place)
                JOIN pg_namespace n ON n.nspname = w.schema
                JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
            ORDER BY w.place
            """, [tables.map(\.schema), tables.map(\.name)])
        return try rows.map { row in
            StoredTable(
                table: FetchedTable(schema: try row.get(0), name: try row.get(1)), hasRows: try row.get(2),
                columns: try row.get(3),
                ancestors: zip(try row.get(4, as: [String].self), try row.get(5, as: [String].self)).map {
                    FetchedTable(schema: $0, name: $1)
                }, isRerouted: try row.get(6))
        }
    }
}
