import Catalog
import Foundation
import Postgres
import Processes

/// Brings tables from a scratch server into the database that wants them.
struct Delivery: Sendable {
    let tables: [FetchedTable]
    let selection: PartialRestore.Selection
    let scratch: ConnectionSettings
    let target: ConnectionSettings
    let tools: BackupTools
    let trust: CodeTrust

    /// Looks, before anything is written, whether there is room for the tables, and whether their roles are there.
    func check() async throws {
        let names = tables.map(\.path)
        let roles: [String] = try await Connection.opened(scratch) { connection in
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
        let (there, known) = try await Connection.opened(target.restoring) { connection in
            try await connection.with { connection in
                (
                    try Self.present(names, on: connection),
                    try connection.query("SELECT rolname::text FROM pg_roles").map { try $0.get(0, as: String.self) }
                )
            }
        }
        if !there.isEmpty { throw BackupError.targetHas(there) }
        let lacking = Set(roles).subtracting(known).sorted()
        if !lacking.isEmpty { throw BackupError.targetLacks(lacking.map { "the role \($0)" }) }
        try await checkTrust()
    }

    /// Which of the names are taken.
    private static func present(_ names: [String], on connection: isolated Connection) throws -> [String] {
        try connection.query(
            """
            SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n
                ON n.oid = c.relnamespace WHERE format('%I.%I', n.nspname, c.relname) = ANY ($1::text[])
            """, [names]
        ).map { try $0.get(0) }
    }

    private func checkTrust() async throws {
        guard try await Confinement.isSuperuser(in: target) else { return }
        try await trust.check(in: scratch, tables: Set(tables), areChecked: true)
        try await checkExpressions()
    }

    /// The constraints that the tables have in the scratch server's backup and not in the target, by their names.
    ///
    /// - Throws: `BackupError.targetLacks` where one of the tables is not there; `.risky`, `.untrusted`.
    func missing(of late: LateConstraints) async throws -> LateConstraints {
        let names = tables.map(\.path)
        let (there, made) = try await Connection.opened(target.restoring) { connection in
            try await connection.with { connection in
                let made = try connection.query(
                    """
                    SELECT n.nspname::text, c.relname::text, k.conname::text FROM pg_constraint k
                        JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                        WHERE format('%I.%I', n.nspname, c.relname) = ANY ($1::text[])
                    """, [names]
                ).map { row -> Made in
                    Made(
                        table: FetchedTable(schema: try row.get(0), name: try row.get(1)),
                        name: ExactText(try row.get(2)))
                }
                return (Set(try Self.present(names, on: connection).map(ExactText.init)), Set(made))
            }
        }
        let lacking = names.filter { !there.contains(ExactText($0)) }
        if !lacking.isEmpty { throw BackupError.targetLacks(lacking.map { "the table \($0)" }) }
        try await checkTrust()
        var missing = late
        missing.constraints.removeAll { made.contains(Made(table: $0.table, name: ExactText($0.name))) }
        return missing
    }

    private struct Made: Hashable, Sendable {
        let table: FetchedTable
        let name: ExactText
    }

    /// Into a database that is in use, tables and rows come in one go, and no constraint can be suspended in between.
    private func checkExpressions() async throws {
        let risky = try await Connection.opened(scratch) { connection in
            try await connection.with { try RiskyTables.read(on: $0) }
        }
        for table in tables {
            if let what = risky[ObjectIdentity(.table, schema: table.schema, table.name)] {
                throw BackupError.risky(table: table.path, what: what)
            }
        }
    }

    /// Brings schemas, tables and rows, all in one transaction.
    ///
    /// psql takes the end of its input for the end of the rows, wherever that comes. So what commits is not in the script
    /// that the programs write: it is given to psql once each of them has ended well. Whatever is killed before that, this
    /// process included, the transaction is rolled back.
    ///
    /// - Throws: `PipelineError`, `BackupError.badOutput`, `.notRestored`: nothing is there then.
    func copy() async throws {
        let isConfined = try await Confinement.isSuperuser(in: target)
        if isConfined { try await Confinement.awaitTurn(in: target.restoring) }
        let psql = try tools.command(
            "psql", ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f", "-"], on: target)
        let confinement = Confinement()
        let mark = "committed \(String(UInt64.random(in: .min ... .max), radix: 36))"
        let ending = SharedQueue([Array("\(isConfined ? confinement.end : "")COMMIT;\n\\echo \(mark)\n".utf8)])
        let (feed, said) = (ByteFeed(), Gathered<UInt8>())
        async let committed: Void = Pipeline([psql]).run(
            source: { try feed.next() ?? ending.next() }, letGo: feed.close, take: { said.add($0) })
        do {
            try feed.push(Array(beginning(isConfined ? confinement : nil).utf8))
            for section in ["pre-data", "data", "post-data"] {
                for options in options {
                    let check = FormatCheck(.script)
                    try await Pipeline(try programs(options, section)).run {
                        check.take($0)
                        try feed.push($0)
                    }
                    if let problem = check.problem() {
                        throw BackupError.badOutput(program: "pg_restore", reason: problem)
                    }
                }
                // What the tables' expressions call in the target, which may be other functions than in the backup.
                if isConfined, section == "pre-data" {
                    try feed.push(Array(trust.guarding(tables.map(\.path)).utf8))
                }
            }
            feed.finish()
        } catch is ByteFeed.Closed {
            // psql tells why it reads no more.
        } catch {
            feed.finish(error)
            _ = try? await committed
            throw error
        }
        try await committed
        guard String(decoding: said.all, as: UTF8.self).contains(mark) else {
            throw BackupError.notRestored(object: "the tables", reason: "psql ended before the end of its script")
        }
    }

    /// In the transaction functions of the target run with their owners' rights.
    private func beginning(_ confinement: Confinement?) -> String {
        let schemas = Set(tables.map(\.schema)).union(selection.intoSchema.map { [$0] } ?? selection.schemas)
        return "BEGIN;\nSET LOCAL client_min_messages = warning;\n"
            + (confinement.map { "SET LOCAL lock_timeout = '60s';\n\($0.begin)" } ?? "")
            + schemas.sorted().map { "CREATE SCHEMA IF NOT EXISTS \(quoteIdentifier($0));\n" }.joined()
    }

    /// Of pg_dump and pg_restore, for each dump that is needed: with `--table`, pg_dump ignores `--schema`.
    private var options: [(dump: [String], restore: [String])] {
        // Whole schemas go with their functions, types and views; of tables' own schemas only the tables.
        let whole = selection.intoSchema == nil ? selection.schemas : []
        let wholeNames = Set(whole.map(ExactText.init))
        let single = tables.filter { !wholeNames.contains(ExactText($0.schema)) }
        var options: [(dump: [String], restore: [String])] = []
        if !single.isEmpty { options.append((single.map { "--table=\($0.pattern)" }, [])) }
        // Contents only; the schemas exist.
        if !whole.isEmpty {
            options.append((whole.map { "--schema=\(quotePattern($0))" }, whole.map { "--schema=\($0)" }))
        }
        return options
    }

    private func programs(_ options: (dump: [String], restore: [String]), _ section: String) throws -> [Command] {
        [
            try tools.command(
                "pg_dump", ["-Fc", "-Z0", "--no-sync", "--section=\(section)"] + options.dump, on: scratch),
            Command(
                tools.programs.path("pg_restore"), ["--no-tablespaces", "-Fc", "-f", "-"] + options.restore),
        ]
    }

    /// Makes the late constraints, each in a session of its own: one that the target cannot have is no reason to lack the
    /// tables, and the tables that a key refers to are locked no longer than it takes.
    ///
    /// - Returns: the constraints that the target cannot have, in words.
    /// - Throws: `BackupError.constraintsLeft` for what is no answer of the server's: a connection that is lost;
    ///   `CancellationError`.
    func make(_ late: LateConstraints) async throws -> [String] {
        if late.areLeftOut { return ["foreign keys are left out, for they point to where the tables were"] }
        var leftOut: [String] = []
        for one in late.constraints {
            do {
                for statements in [[one.statement], one.comments] where !statements.isEmpty {
                    try await LateConstraints.make(statements, in: target, isConfined: false)
                }
            } catch let error as PostgresError where error.kind == .server && !error.isOutage {
                let words = one.statement.split(whereSeparator: \.isWhitespace).joined(separator: " ")
                leftOut.append("left out: \(words): \(error)")
            } catch let error as PostgresError {
                throw BackupError.constraintsLeft(cause: error)
            }
        }
        return leftOut
    }

    /// How the tables differ from those of the scratch server.
    func differences() async throws -> [String] {
        let (expected, found) = (try await catalog(scratch), try await catalog(target.restoring))
        return TableComparison(tables: tables).notes(expected: expected, found: found)
    }

    private func catalog(_ settings: ConnectionSettings) async throws -> SchemaCatalog {
        let reader = CatalogReader(.schemas(Set(tables.map { ExactText($0.schema) })), owner: "")
        return try await Connection.opened(settings) { connection in
            try await connection.with { try reader.read(on: $0) }
        }
    }
}
