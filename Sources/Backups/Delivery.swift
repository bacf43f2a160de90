import Catalog
import Foundation
import Postgres
import Processes

/// Brings tables from a scratch server into the database that wants them.
struct Delivery: Sendable {
    let tables: [FetchedTable]
    let selection: PartialRestore.Selection
    let place: ConnectionSettings
    let target: ConnectionSettings
    let tools: BackupTools

    /// Looks, before anything is written, whether there is room for the tables, and whether their roles are there.
    func check() async throws {
        let names = tables.map(\.path)
        let roles: [String] = try await Connection.opened(place) { connection in
            try await connection.with { connection in
                try connection.query(
                    """
                    SELECT DISTINCT r.rolname::text FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid
                    WHERE d.refclassid = 'pg_authid'::regclass AND d.classid = 'pg_class'::regclass AND d.objid IN
                        (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                            WHERE format('%I.%I', n.nspname, c.relname) = ANY ($1::text[]))
                    """, [names]
                ).map { try $0.get(0) }
            }
        }
        let (there, known) = try await Connection.opened(target.named("reeve restore")) { connection in
            try await connection.with { connection in
                let there: [String] = try connection.query(
                    """
                    SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n
                        ON n.oid = c.relnamespace WHERE format('%I.%I', n.nspname, c.relname) = ANY ($1::text[])
                    """, [names]
                ).map { try $0.get(0) }
                return (
                    there,
                    try connection.query("SELECT rolname::text FROM pg_roles").map { try $0.get(0, as: String.self) }
                )
            }
        }
        if !there.isEmpty { throw BackupError.targetHas(there) }
        let lacking = Set(roles).subtracting(known).sorted()
        if !lacking.isEmpty { throw BackupError.targetLacks(lacking.map { "the role \($0)" }) }
        if try await Confinement.isSuperuser(in: target) { try await checkExpressions() }
    }

    /// Into a database that is in use, tables and rows come in one go, and no constraint can be suspended in between.
    private func checkExpressions() async throws {
        let risky = try await Connection.opened(place) { connection in
            try await connection.with { try RiskyTables.read(on: $0) }
        }
        for table in tables {
            if let what = risky[ObjectIdentity(.table, schema: table.schema, table.name)] {
                throw BackupError.risky(table: table.path, what: what)
            }
        }
    }

    func copy() async throws {
        let schemas = Set(tables.map(\.schema)).union(selection.intoSchema.map { [$0] } ?? selection.schemas)
        try await Connection.opened(target.named("reeve restore")) { connection in
            try await connection.with { connection in
                try connection.transaction {
                    try Confinement.during(on: connection) {
                        for schema in schemas.sorted() {
                            try connection.execute("CREATE SCHEMA IF NOT EXISTS \(quoteIdentifier(schema))")
                        }
                    }
                }
            }
        }
        // Whole schemas go with their functions, types and views; of tables' own schemas only the tables.
        let whole = selection.intoSchema == nil ? selection.schemas : []
        let wholeNames = Set(whole.map(ExactText.init))
        let single = tables.filter { !wholeNames.contains(ExactText($0.schema)) }
        if !single.isEmpty { try await copy(single.map { "--table=\($0.pattern)" }) }
        if !whole.isEmpty {
            // Contents only; the schemas exist.
            try await copy(whole.map { "--schema=\(quotePattern($0))" }, contentsOf: whole)
        }
    }

    private func copy(_ options: [String], contentsOf schemas: [String] = []) async throws {
        let dump = try tools.command("pg_dump", ["-Fc", "-Z0", "--no-sync"] + options, on: place)
        let script = Command(
            tools.programs.path("pg_restore"),
            ["--no-tablespaces", "-Fc", "-f", "-"] + schemas.map { "--schema=\($0)" })
        // In one transaction, in which functions of the target run with their owners' rights.
        let isConfined = try await Confinement.isSuperuser(in: target)
        let confinement = Confinement()
        let (first, last) =
            isConfined ? ("SET LOCAL lock_timeout = '60s'; \(confinement.begin)", confinement.end) : ("", "")
        if isConfined { try await Confinement.awaitTurn(in: target.named("reeve restore")) }
        let restore = try tools.command(
            "psql",
            [
                "-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "--single-transaction", "-c", first, "-f", "-",
                "-c", last,
            ], on: target)
        try await Pipeline([dump, script, restore]).run { _ in }
    }

    /// - Returns: the keys that the target cannot have, in words.
    /// - Throws: what is no answer of the server's: a connection that is lost, or that all is to stop.
    func addKeys(_ keys: ForeignKeys) async throws -> [String] {
        if keys.areLeftOut { return ["foreign keys are left out, for they point to where the tables were"] }
        return try await Connection.opened(target.named("reeve restore")) { connection in
            try await connection.with { connection in
                try keys.keys.compactMap { key in
                    do {
                        try connection.transaction {
                            try Confinement.during(on: connection) {
                                for statement in [key.statement] + key.comments { try connection.execute(statement) }
                            }
                        }
                        return nil
                    } catch let error as PostgresError where error.kind == .server && !error.isOutage {
                        let words = key.statement.split(whereSeparator: \.isWhitespace).joined(separator: " ")
                        return "left out: \(words): \(error)"
                    }
                }
            }
        }
    }

    /// How the tables differ from those of the scratch server.
    func differences() async throws -> [String] {
        let (expected, found) = (try await catalog(place), try await catalog(target.named("reeve restore")))
        return TableComparison(tables: tables).notes(expected: expected, found: found)
    }

    private func catalog(_ settings: ConnectionSettings) async throws -> SchemaCatalog {
        let reader = CatalogReader(.schemas(Set(tables.map { ExactText($0.schema) })), owner: "")
        return try await Connection.opened(settings) { connection in
            try await connection.with { try reader.read(on: $0) }
        }
    }
}
