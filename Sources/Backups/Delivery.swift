import Catalog
import Foundation
import Postgres
import Processes
import SQL

/// Copies tables from a scratch server, and their rows from the backup or from the scratch server, into the target
/// database: schemas, tables and rows in one transaction.
struct Delivery: Sendable {
    let tables: [FetchedTable]
    let selection: PartialRestore.Selection
    let scratch: ConnectionSettings
    let target: ConnectionSettings
    let tools: BackupTools
    let trust: CodeTrust
    /// The schemas that expressions of the tables refer to, as `DeliveryCheck.run` returns them.
    let usedSchemas: [String]
    /// Objects that the tables need, and the script that creates them.
    let needed: NeededObjects
    let neededScript: [UInt8]
    /// The record of the restore. The record is created in the same transaction as the tables.
    let record: UnfinishedRestore
    /// The rows in the backup; nil if the scratch server has the rows.
    let rows: RowSource?
    let progress: Restorer.Progress

    /// Copies the tables, and returns once the transaction is committed.
    ///
    /// psql treats any end of its input as the end of the script. So the script that the programs write does not
    /// contain the COMMIT: psql gets it only after each program has ended successfully. If any process is killed before
    /// that, this one included, the transaction is rolled back. If the answer to COMMIT is lost, the existence of the
    /// record shows whether the transaction was committed.
    ///
    /// - Returns: messages about schemas that are not as in the backup.
    /// - Throws: `PipelineError`, `BackupError.badOutput`, `.notRestored`, `CancellationError`, if nothing was
    ///   committed; `BackupError.outcomeUnknown`.
    func copy() async throws -> [String] {
        let isConfined = try await Confinement.isSuperuser(in: target.restoring)
        if isConfined { try await Confinement.awaitTurn(in: target.restoring) }
        let confinement = isConfined ? Confinement() : nil
        let missing = try await missingSchemas()
        // A schema that the user has named with --into-schema is not in the backup.
        let attributes = try await SchemaAttributes(
            of: missing.filter { selection.intoSchema.map(ExactText.init) != ExactText($0) }, scratch: scratch,
            target: target.restoring)
        // The application name of the session is the name of the record, by which `UnfinishedRestore.outcome` finds the
        // session. An application name from the connection string must not replace it.
        var (named, plain) = (tools, target)
        named.application = record.schema
        plain.parameters["application_name"] = nil
        let psql = try named.command(
            "psql", ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f", "-"], on: plain)
        let ending = SharedQueue([Array(try self.ending(confinement, attributes).utf8)])
        let (feed, said) = (ByteFeed(), Gathered<UInt8>())
        async let committed: Void = Pipeline([psql]).run(
            source: { try feed.next() ?? ending.next() }, letGo: feed.close, take: { said.add($0) })
        do {
            try await write(to: feed, confinement, creating: missing)
            feed.finish()
        } catch is ByteFeed.Closed {
            // psql has stopped reading. Its error is thrown below, where `committed` is awaited.
        } catch {
            feed.finish(error)
            _ = try? await committed
            throw error
        }
        do {
            try await committed
            if String(decoding: said.all, as: UTF8.self).contains(record.schema) { return attributes.notes }
            throw BackupError.notRestored(object: "the tables", reason: "psql ended before the end of its script")
        } catch {
            // If psql has not fetched the COMMIT from `ending`, nothing was committed.
            guard ending.next() == nil else { throw error }
            switch await record.outcome(in: target) {
            case .committed: return attributes.notes
            case .notCommitted: throw error
            case .unknown(let reason):
                throw BackupError.outcomeUnknown(schema: record.schema, reason: reason, cause: error)
            }
        }
    }

    /// Returns the statements that begin the transaction and create the missing schemas. If the role is a superuser,
    /// they also make functions of the target run with the rights of their owners, and keep schemas from being renamed,
    /// because rows and constraints are restored by name.
    ///
    /// - Parameter missing: the schemas that did not exist in the target. If another session has created one of them in
    ///   the meantime, the transaction fails.
    private func beginning(_ confinement: Confinement?, creating missing: [String]) -> String {
        "BEGIN;\nSET LOCAL client_min_messages = warning;\n"
            + (confinement.map { "SET LOCAL lock_timeout = '60s';\n\($0.begin)" } ?? "")
            + missing.map { "CREATE SCHEMA \(quoteIdentifier($0));\n" }.joined()
            + (confinement == nil ? "" : "\(SchemaLock.names(of: schemas));\n" + trust.guarding(schemas: usedSchemas))
    }

    /// The schemas of the tables, and those that the selection needs.
    private var schemas: [String] { Set((tables.map(\.schema) + usedSchemas).map(ExactText.init)).map(\.text) }

    /// Returns the schemas that the restored tables and the selection need, and that do not exist in the target.
    private func missingSchemas() async throws -> [String] {
        let wanted = Set(
            (tables.map(\.schema) + needed.schemas + (selection.intoSchema.map { [$0] } ?? selection.schemas)).map(
                ExactText.init))
        return try await Connection.opened(target.restoring) { connection in
            try await connection.with { connection in
                try connection.query(
                    """
                    SELECT s.name FROM unnest($1::text[]) AS s (name)
                    WHERE NOT EXISTS (SELECT FROM pg_namespace n WHERE n.nspname = s.name) ORDER BY 1
                    """, [wanted.map(\.text)]
                ).map { try $0.get(0) }
            }
        }
    }

    /// Returns the statements that end the transaction. The record is created before the confinement ends, because the
    /// confinement disables event triggers of other roles.
    private func ending(_ confinement: Confinement?, _ attributes: SchemaAttributes) throws -> String {
        Self.encoding + attributes.statements.map { "\($0);\n" }.joined() + (try record.script())
            + (confinement?.end ?? "") + "COMMIT;\n\\echo \(record.schema)\n"
    }

    private func write(to feed: ByteFeed, _ confinement: Confinement?, creating missing: [String]) async throws {
        try await push(beginning(confinement, creating: missing), to: feed)
        if !neededScript.isEmpty { try await onOwnThread(named: "delivery") { try feed.push(neededScript) } }
        for section in ["pre-data", "data", "post-data"] {
            if section == "data" { try await rows?.write(progress: progress) { try feed.push($0) } }
            for options in options {
                let check = FormatCheck(.script)
                // pg_restore may stop reading when it has all entries. The check below shows whether it has.
                try await Pipeline(try programs(options, section), lastMayStopEarly: true).run {
                    check.take($0)
                    try feed.push($0)
                }
                if let problem = check.problem() {
                    throw BackupError.badOutput(program: "pg_restore", reason: problem)
                }
            }
            // Check the functions that the tables' expressions call in the target. These functions may differ from the
            // functions of the same names in the backup.
            if confinement != nil, section == "pre-data" {
                try await push(trust.guarding(tables.map(\.path)), to: feed)
            }
        }
    }

    /// The encoding of the scripts that are not from pg_restore, which sets the encoding of the dump.
    private static let encoding = "SET client_encoding = 'UTF8';\n"

    /// Sends a script to psql. Runs on a separate thread, because the call blocks while psql waits for a lock and reads
    /// nothing.
    private func push(_ script: String, to feed: ByteFeed) async throws {
        try await onOwnThread(named: "delivery") { try feed.push(Array((Self.encoding + script).utf8)) }
    }

    /// The options of pg_dump and pg_restore, for each dump that is needed. If pg_dump gets `--table`, it ignores
    /// `--schema`, so schemas and tables need separate dumps.
    private var options: [(dump: [String], restore: [String])] {
        // Whole schemas are copied with their functions, types and views; of other schemas, only the tables are copied.
        let whole = selection.intoSchema == nil ? selection.schemas : []
        let wholeNames = Set(whole.map(ExactText.init))
        let single = tables.filter { !wholeNames.contains(ExactText($0.schema)) }
        var options: [(dump: [String], restore: [String])] = []
        if !single.isEmpty { options.append((single.map { "--table=\($0.pattern)" }, [])) }
        // With --schema, pg_restore restores only the objects in the schemas, and not the schemas themselves. The
        // schemas exist already.
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

    /// Describes how the tables in the target differ from those on the scratch server. To be called before the late
    /// constraints are made.
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
