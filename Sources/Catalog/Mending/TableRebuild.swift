import Postgres
import SQL

/// Creates tables again under the same names and copies their rows. This is necessary to change the order of columns or
/// the partition key, which ALTER TABLE cannot change.
struct TableRebuild {
    let expected: SchemaCatalog
    let found: SchemaCatalog
    let tables: Set<ObjectIdentity>
    let relations: RelationDefinition
    /// If a column of the old table temporarily stores its values in another type, returns the SQL expression that
    /// converts the values back; nil for other columns. The second parameter is the expected type of the column.
    let unpacking: (ObjectIdentity, String) -> String?

    private static let suffix = "_reeve_old"

    /// Returns the temporary name of an old table. A checksum (FNV-1a) distinguishes long names with the same
    /// beginning.
    private static func oldName(_ name: String) -> String {
        if name.utf8.count + suffix.utf8.count <= 63 { return name + suffix }
        let sum = name.utf8.reduce(0x811C_9DC5 as UInt32) { ($0 ^ UInt32($1)) &* 0x0100_0193 }
        let end = "_\(String(sum, radix: 16))\(suffix)"
        return name.clipped(toBytes: 63 - end.utf8.count) + end
    }

    private func oldPath(_ table: ObjectIdentity) -> String {
        ObjectIdentity(.table, schema: table.schema, Self.oldName(table.name)).path
    }

    /// The tables whose rows are copied: the rebuilt tables that are not partitions of another rebuilt table.
    private var roots: [CatalogObject] {
        tables.sorted().compactMap { found[$0] }.filter { table in
            !tables.contains { ExactText.same($0.path, table["partition of"]) }
        }
    }

    var setAside: [MendScript.Statement] {
        tables.sorted().compactMap { found[$0] }.flatMap { table in
            var statements: [MendScript.Statement] = []
            func add(_ sql: String, note: String? = nil) {
                statements.append(MendScript.Statement(sql: sql, note: note, loss: nil))
            }
            for sequence in sequences(of: table.identity) {
                let alter = "ALTER SEQUENCE \(sequence.identity.path)"
                let isIdentity = sequence["identity of"] != nil
                add(
                    isIdentity
                        ? "\(alter) RENAME TO \(PlainName.quoted(Self.oldName(sequence.identity.name)))"
                        : "\(alter) OWNED BY NONE")
            }
            if let parent = table["partition of"], !tables.contains(where: { ExactText.same($0.path, parent) }) {
                add("ALTER TABLE \(parent) DETACH PARTITION \(table.identity.path)")
            }
            add(
                "ALTER TABLE \(table.identity.path) RENAME TO \(PlainName.quoted(Self.oldName(table.identity.name)))",
                note: "creates table \(table.identity) again and copies its rows, under an exclusive lock")
            return statements
        }
    }

    var copy: [MendScript.Statement] {
        roots.flatMap { table in
            (rows(of: table) + counters(of: table) + ["DROP TABLE \(oldPath(table.identity))"]).map {
                MendScript.Statement(sql: $0, note: nil, loss: loss(of: table))
            }
        }
    }

    /// Returns what is lost because the new table cannot hold it; nil if nothing is lost.
    private func loss(of table: CatalogObject) -> String? {
        let retyped = { (column: CatalogObject) in unpacking(column.identity, column["type"] ?? "") != nil }
        // The loss of a column whose type is created again is found with the type.
        let columns = relationsFound.columns(of: table).filter { !retyped($0) || expected[$0.identity] == nil }
        return DataLoss.ofRebuilding(table, columns.map { ($0, expected[$0.identity]) })
    }

    private var relationsFound: RelationDefinition { RelationDefinition(catalog: found, parts: [:]) }

    private func sequences(of table: ObjectIdentity) -> [CatalogObject] {
        found.sorted.filter { sequence in
            guard sequence.identity.kind == .sequence, let column = sequence["identity of"] ?? sequence["owned by"]
            else { return false }
            return ExactText.same(found.object(at: column)?.quotedParent, table.path)
        }
    }

    private func rows(of table: CatalogObject) -> [String] {
        guard let new = expected[table.identity] else { return [] }
        let pairs = relations.columns(of: new).compactMap { column -> (String, String)? in
            guard column["generated"] == nil, let old = found[column.identity] else { return nil }
            let name = column.identity.quotedName
            let (from, to) = (old["type"] ?? "", column["type"] ?? "")
            let plain = ExactText.same(from, to) ? name : ColumnAlteration.conversion(name, from, to)
            return (name, unpacking(column.identity, to) ?? plain)
        }
        if pairs.isEmpty { return [] }
        let only = table["partition key"] == nil ? "ONLY " : ""
        // Otherwise the owner of the table reads no rows, because the policies are on the new table.
        let isForced = table["forced row level security"] != nil
        return (isForced ? ["ALTER TABLE \(oldPath(table.identity)) NO FORCE ROW LEVEL SECURITY"] : []) + [
            "INSERT INTO \(table.identity.path) (\(pairs.map(\.0).joined(separator: ", "))) OVERRIDING SYSTEM VALUE\n"
                + "SELECT \(pairs.map(\.1).joined(separator: ", ")) FROM \(only)\(oldPath(table.identity))"
        ]
    }

    /// Returns the statements that set the sequences of identity columns to their old values.
    private func counters(of table: CatalogObject) -> [String] {
        sequences(of: table.identity).compactMap { sequence in
            guard let column = sequence["identity of"], let path = found.object(at: column),
                expected[path]?["identity"] != nil
            else { return nil }
            let old = ObjectIdentity(
                .sequence, schema: sequence.identity.schema, Self.oldName(sequence.identity.name)
            ).path
            return "SELECT setval(pg_get_serial_sequence(\(quoteLiteral(table.identity.path)), "
                + "\(quoteLiteral(path.name))), last_value, is_called) FROM \(old)"
        }
    }
}
