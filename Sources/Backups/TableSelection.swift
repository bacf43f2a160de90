import Catalog
import Postgres
import SQL

/// A table that is restored from a backup.
struct FetchedTable: Sendable, Hashable, Comparable {
    private let exactSchema: ExactText
    private let exactName: ExactText
    var schema: String { exactSchema.text }
    var name: String { exactName.text }

    init(schema: String, name: String) {
        (exactSchema, exactName) = (ExactText(schema), ExactText(name))
    }

    var path: String { ObjectIdentity(.table, schema: schema, name).path }
    var pattern: String { quotePattern(schema: schema, names: [name]) }

    /// The names by which a user may refer to the table: with and without the schema, each with or without quotes.
    var spellings: Set<ExactText> {
        func all(_ name: String) -> [String] { [name, quoteIdentifier(name)] }
        let names = all(name)
        return Set((names + all(schema).flatMap { schema in names.map { "\(schema).\($0)" } }).map(ExactText.init))
    }

    static func < (left: FetchedTable, right: FetchedTable) -> Bool {
        (left.schema, left.name) < (right.schema, right.name)
    }
}

/// Resolves the names of tables and schemas that a user has given. Pure, except for `read`.
struct TableSelection {
    /// A table in the backup.
    struct Known: Sendable {
        let oid: Int
        let table: FetchedTable
        /// The OIDs of the partitioned table, or of the tables that this table inherits from.
        let parents: [Int]
        /// The names by which a user may refer to the table.
        let spellings: Set<ExactText>
    }

    let schemas: Set<ExactText>
    private let tables: [Known]
    /// The kinds of the views and foreign tables, by the names by which a user may refer to them.
    private let others: [ExactText: String]
    private var children: [Int: [Known]] = [:]

    init(schemas: [String], tables: [Known], others: [ExactText: String] = [:]) {
        self.others = others
        self.schemas = Set(schemas.map(ExactText.init))
        self.tables = tables
        for table in tables {
            for parent in table.parents { children[parent, default: []].append(table) }
        }
    }

    /// - Throws: `BackupError.notInBackup`, `.notTable`.
    func resolve(_ selection: PartialRestore.Selection) throws -> [FetchedTable] {
        var found: Set<FetchedTable> = []
        let wanted = Set(selection.schemas.map(ExactText.init))
        if let missing = selection.schemas.first(where: { !schemas.contains(ExactText($0)) }) {
            throw BackupError.notInBackup("schema \(missing)")
        }
        for known in tables where wanted.contains(ExactText(known.table.schema)) { found.insert(known.table) }
        for name in selection.tables { found.formUnion(try family(of: name)) }
        return found.sorted()
    }

    /// Returns the table that a user has named, and its partitions and the tables that inherit from it, at all levels.
    private func family(of name: String) throws -> [FetchedTable] {
        let spelling = ExactText(name)
        let all = tables.filter { UserSchemas.contains($0.table.schema) && $0.spellings.contains(spelling) }
        // A table of the ledger is meant only if no other table has the name.
        let ofUsers = all.filter { $0.table.schema != UserSchemas.ledger }
        let meant = ofUsers.isEmpty ? all : ofUsers
        guard let top = meant.first else {
            throw others[spelling].map { BackupError.notTable(name, kind: $0) } ?? .notInBackup("table \(name)")
        }
        guard meant.count == 1 else {
            throw BackupError.notInBackup(
                "single table \(name): several schemas contain a table of this name; write SCHEMA.TABLE")
        }
        var family = [top]
        var known: Set = [top.oid]
        var next = 0
        while next < family.count {
            // A table may inherit from several tables of the family.
            family += (children[family[next].oid] ?? []).filter { known.insert($0.oid).inserted }
            next += 1
        }
        return family.map(\.table)
    }
}

extension TableSelection {
    static func read(on connection: isolated Connection) throws -> TableSelection {
        let schemas = try connection.query("SELECT nspname::text FROM pg_namespace").map {
            try $0.get(0, as: String.self)
        }
        let rows = try connection.query(
            """
            SELECT c.oid::int8, n.nspname::text, c.relname::text,
                ARRAY(SELECT i.inhparent::int8 FROM pg_inherits i WHERE i.inhrelid = c.oid),
                CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' END
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
            """)
        var tables: [TableSelection.Known] = []
        var others: [ExactText: String] = [:]
        for row in rows {
            let table = FetchedTable(schema: try row.get(1), name: try row.get(2))
            if let kind: String = try row.get(4, as: String?.self) {
                for spelling in table.spellings { others[spelling] = kind }
            } else {
                tables.append(
                    TableSelection.Known(
                        oid: try row.get(0), table: table, parents: try row.get(3), spellings: table.spellings))
            }
        }
        return TableSelection(schemas: schemas, tables: tables, others: others)
    }
}
