import Postgres
import Processes
import SQL

/// The rows of a table in one backup, which are loaded into a scratch table of built-in types. No definition of the
/// backup is used for the scratch table, so no code of the backup can run.
struct RowLoad: Sendable {
    let restorer: Restorer
    /// The table in the backup.
    let table: CatalogTable
    /// Tells the loads in one scratch server apart.
    let number: Int

    /// The scratch table.
    private var loaded: FetchedTable { FetchedTable(schema: "public", name: "rows_\(number)") }
    var path: String { loaded.path }

    /// The names of the columns.
    var columns: [String] { table.columns.map(\.name) }

    /// The space that the rows need, in bytes, approximately.
    var estimatedBytes: Int { restorer.manifest.estimatedBytes(of: Set(table.members.map(\.table))) }

    /// Creates the scratch table and loads the rows.
    ///
    /// - Parameter isTyped: whether columns of built-in types get these types; otherwise all columns are texts.
    /// - Throws: `BackupError`, `PipelineError`, `PostgresError`, `StorageError`.
    func fill(_ scratch: ConnectionSettings, isTyped: Bool, progress: @escaping Restorer.Progress) async throws {
        let tools = try await Connection.opened(scratch) { connection in
            try await connection.with { connection in
                let columns = try table.columns.map { column in
                    "\(quoteIdentifier(column.name)) "
                        + "\(isTyped ? try Self.builtIn(column.type, on: connection) : "text")"
                }
                try connection.execute("CREATE UNLOGGED TABLE \(path) (\(columns.joined(separator: ", ")))")
            }
            return try await BackupTools.dumping(server: restorer.manifest.server, beside: connection)
        }
        let source = RowSource(restorer, tools, table.members, as: table.members.map { _ in loaded })
        guard RowSource.canName(table.members, encoding: restorer.manifest.locale.encoding) else {
            throw BackupError.notInBackup(
                "table \(table.table.path) whose name and columns can be read: they are not written in ASCII, and the "
                    + "backup has the encoding \(restorer.manifest.locale.encoding)")
        }
        let psql = try tools.command(
            "psql", ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f", "-"], on: scratch)
        let feed = ByteFeed()
        async let filled: Void = Pipeline([psql]).run(
            source: { try feed.next() }, letGo: feed.close, take: { _ in })
        do {
            try await source.write(progress: progress) { try feed.push($0) }
            feed.finish()
        } catch is ByteFeed.Closed {
            // psql has stopped reading. Its error is thrown below.
        } catch {
            feed.finish(error)
            _ = try? await filled
            throw error
        }
        try await filled
    }

    /// Returns the built-in type of this name, without a length or precision; `text` if the type is not built in.
    ///
    /// - Parameter type: a name from a backup. It is only looked up.
    private static func builtIn(_ type: String, on connection: isolated Connection) throws -> String {
        do {
            return try connection.query(
                "SELECT format_type(t.oid, -1) FROM pg_type t WHERE t.oid = to_regtype($1) AND t.typtype = 'b'", [type]
            ).first?.get(0) ?? "text"
        } catch let error as PostgresError where error.kind == .server {
            return "text"  // not a name of a type at all
        }
    }

    /// Returns how many of the loaded rows match a condition that the user has written.
    func count(_ condition: String, in scratch: ConnectionSettings) async throws -> Int {
        try await Connection.opened(scratch) { connection in
            try await connection.with { connection in
                try connection.query("SELECT count(*) FROM \(path) AS t WHERE (\(condition)\n)").first?.get(0) ?? 0
            }
        }
    }

    /// Drops the scratch table.
    func clear(_ scratch: ConnectionSettings) async throws {
        try await Connection.opened(scratch) { connection in
            try await connection.with { _ = try $0.execute("DROP TABLE \(path)") }
        }
    }
}
