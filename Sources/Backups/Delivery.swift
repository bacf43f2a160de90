import Catalog
import Foundation
import Postgres
import Processes

/// Brings tables from a scratch server into the database that wants them: schemas, tables and rows in one transaction.
struct Delivery: Sendable {
    let tables: [FetchedTable]
    let selection: PartialRestore.Selection
    let scratch: ConnectionSettings
    let target: ConnectionSettings
    let tools: BackupTools
    let trust: CodeTrust
    /// The record of the restore, which comes with the tables.
    let record: UnfinishedRestore

    /// Copies, and returns once that is committed.
    ///
    /// psql takes the end of its input for the end of the rows, wherever that comes. So what commits is not in the script
    /// that the programs write: it is given to psql once each of them has ended well. Whatever is killed before that, this
    /// process included, the transaction is rolled back. Where the answer to COMMIT is lost, the record tells.
    ///
    /// - Throws: `PipelineError`, `BackupError.badOutput`, `.notRestored`, `CancellationError`: nothing is there then;
    ///   `BackupError.outcomeUnknown`.
    func copy() async throws {
        let isConfined = try await Confinement.isSuperuser(in: target.restoring)
        if isConfined { try await Confinement.awaitTurn(in: target.restoring) }
        let confinement = isConfined ? Confinement() : nil
        // The session is known by the record's name, and not by one of the connection string.
        var (named, plain) = (tools, target)
        named.application = record.schema
        plain.parameters["application_name"] = nil
        let psql = try named.command(
            "psql", ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f", "-"], on: plain)
        let ending = SharedQueue([Array(try self.ending(confinement).utf8)])
        let (feed, said) = (ByteFeed(), Gathered<UInt8>())
        async let committed: Void = Pipeline([psql]).run(
            source: { try feed.next() ?? ending.next() }, letGo: feed.close, take: { said.add($0) })
        do {
            try await write(to: feed, confinement)
            feed.finish()
        } catch is ByteFeed.Closed {
            // psql tells why it reads no more.
        } catch {
            feed.finish(error)
            _ = try? await committed
            throw error
        }
        do {
            try await committed
            if String(decoding: said.all, as: UTF8.self).contains(record.schema) { return }
            throw BackupError.notRestored(object: "the tables", reason: "psql ended before the end of its script")
        } catch {
            // Without the COMMIT there was none.
            guard ending.next() == nil else { throw error }
            switch await record.outcome(in: target) {
            case .committed: return
            case .notCommitted: throw error
            case .unknown(let reason):
                throw BackupError.outcomeUnknown(schema: record.schema, reason: reason, cause: error)
            }
        }
    }

    /// In the transaction functions of the target run with their owners' rights.
    private func beginning(_ confinement: Confinement?) -> String {
        let schemas = Set(tables.map(\.schema)).union(selection.intoSchema.map { [$0] } ?? selection.schemas)
        return "BEGIN;\nSET LOCAL client_min_messages = warning;\n"
            + (confinement.map { "SET LOCAL lock_timeout = '60s';\n\($0.begin)" } ?? "")
            + schemas.sorted().map { "CREATE SCHEMA IF NOT EXISTS \(quoteIdentifier($0));\n" }.joined()
    }

    /// The record is made while others' event triggers are silent.
    private func ending(_ confinement: Confinement?) throws -> String {
        try record.script() + (confinement?.end ?? "") + "COMMIT;\n\\echo \(record.schema)\n"
    }

    private func write(to feed: ByteFeed, _ confinement: Confinement?) async throws {
        try await push(beginning(confinement), to: feed)
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
            // Checks the functions that the expressions call in the target: they may differ from the backup's.
            if confinement != nil, section == "pre-data" {
                try await push(trust.guarding(tables.map(\.path)), to: feed)
            }
        }
    }

    /// Waits on a thread of its own: psql reads nothing while it waits for a lock.
    private func push(_ script: String, to feed: ByteFeed) async throws {
        try await onOwnThread(named: "delivery") { try feed.push(Array(script.utf8)) }
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

    /// How the tables differ from those of the scratch server, in words; before the late constraints are made.
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
