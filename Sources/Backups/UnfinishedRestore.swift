import Catalog
import Foundation
import Postgres
import SQL

/// The record that a restore of single tables keeps in its target: an empty schema of the restoring role. The schema's
/// comment contains the restored tables, the ID of the backup, and the constraints that are not made yet.
///
/// The schema is created in the same transaction as the tables, so its existence also shows whether that transaction
/// was committed. The transactions that make the constraints update the record. At the end of the restore, the record
/// is dropped. Only the restoring role and superusers can change the record. The statements that make the constraints
/// are always read from the backup, and never from the record.
public struct UnfinishedRestore: Sendable {
    struct Table: Codable, Sendable, Equatable {
        let schema: String
        let name: String
        /// The OID of the table in the target; nil until the table exists.
        var oid: Int?
    }

    struct Missing: Codable, Sendable, Equatable {
        let schema: String
        let table: String
        let name: String
        /// The server's message, if the server has refused the constraint.
        var reason: String?
        /// Whether the constraint exists, and only comments on it are missing.
        var isMade: Bool?

        var words: String { "\(name) of \(FetchedTable(schema: schema, name: table).path)" }
    }

    private struct Content: Codable, Sendable {
        let backup: String
        /// The names of the wanted tables and schemas, as the user wrote them, sorted.
        let wantedTables: [String]
        let wantedSchemas: [String]
        let intoSchema: String?
        var tables: [Table]
        var missing: [Missing]
    }

    /// The name of the schema that is the record.
    public let schema: String
    /// The role that ran the restore.
    public let role: String
    private var content: Content

    /// The ID of the backup.
    public var backup: String { content.backup }
    /// Descriptions of the constraints that are not made yet.
    public var missingNames: [String] { missing.map(\.words) }
    var missing: [Missing] {
        get { content.missing }
        set { content.missing = newValue }
    }
    var tables: [Table] { content.tables }

    init(
        backup: String, _ selection: PartialRestore.Selection, tables: [FetchedTable],
        constraints: [LateConstraints.Constraint]
    ) {
        let number = String(UInt64.random(in: .min ... .max), radix: 36)
        schema = UserSchemas.restorePrefix + String(repeating: "0", count: 13 - number.utf8.count) + number
        role = ""
        content = Content(
            backup: backup, wantedTables: selection.tables.sorted(), wantedSchemas: selection.schemas.sorted(),
            intoSchema: selection.intoSchema, tables: tables.map { Table(schema: $0.schema, name: $0.name) },
            missing: constraints.map { Missing(schema: $0.table.schema, table: $0.table.name, name: $0.name) })
    }

    private init(schema: String, role: String, content: Content) {
        (self.schema, self.role, self.content) = (schema, role, content)
    }

    var selection: PartialRestore.Selection {
        var selection = PartialRestore.Selection()
        selection.tables = content.wantedTables
        selection.schemas = content.wantedSchemas
        selection.intoSchema = content.intoSchema
        return selection
    }

    /// Whether this is the record of a restore of `selection`.
    func isOf(_ selection: PartialRestore.Selection) -> Bool {
        func exact(_ names: [String]) -> [ExactText] { names.map(ExactText.init) }
        return exact(content.wantedTables) == exact(selection.tables.sorted())
            && exact(content.wantedSchemas) == exact(selection.schemas.sorted())
            && content.intoSchema.map(ExactText.init) == selection.intoSchema.map(ExactText.init)
    }

    // MARK: Writing

    private var text: String {
        get throws {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
            return String(decoding: try encoder.encode(content), as: UTF8.self)
        }
    }

    /// Returns a script for psql that makes the record, at the end of the transaction that creates the tables.
    func script() throws -> String {
        // The tag of the script's dollar quotes. It contains a random number, so no name of a table, schema or
        // constraint in the script contains the tag.
        let tag = "$\(schema)$"
        return """
            SET client_encoding = 'UTF8';
            SET LOCAL search_path = pg_catalog, pg_temp;
            CREATE SCHEMA \(schema);
            DO \(tag)
            DECLARE
                content jsonb := \(quoteLiteral(try text));
            BEGIN
                content := jsonb_set(content, '{tables}', (
                    SELECT coalesce(jsonb_agg(t.value || jsonb_build_object('oid',
                        format('%I.%I', t.value ->> 'schema', t.value ->> 'name')::regclass::oid::int8)), '[]')
                    FROM jsonb_array_elements(content -> 'tables') t));
                EXECUTE format('COMMENT ON SCHEMA %I IS %L', '\(schema)', content);
            END \(tag);

            """
    }

    /// Returns the statement that stores the current contents of the record.
    func update() throws -> String { "COMMENT ON SCHEMA \(schema) IS \(quoteLiteral(try text))" }

    // MARK: Reading

    /// Returns the records in the current database.
    ///
    /// - Throws: `PostgresError`.
    public static func all(on connection: isolated Connection) throws -> [UnfinishedRestore] {
        try connection.query(
            """
            SELECT nspname::text, pg_get_userbyid(nspowner)::text, obj_description(oid, 'pg_namespace')
            FROM pg_namespace WHERE \(UserSchemas.isRestore("nspname")) ORDER BY 1
            """
        ).compactMap { row in
            guard let text: String = try row.get(2),
                let content = try? JSONDecoder().decode(Content.self, from: Data(text.utf8))
            else { return nil }
            return UnfinishedRestore(schema: try row.get(0), role: try row.get(1), content: content)
        }
    }

    /// Returns the records of the session's role. Records of other roles are not trusted.
    static func own(on connection: isolated Connection) throws -> [UnfinishedRestore] {
        let user: String = try connection.query("SELECT current_user::text").first?.get(0) ?? ""
        return try all(on: connection).filter { ExactText($0.role) == ExactText(user) }
    }

    /// Reads the current state of this record in the target, with the OIDs of the tables.
    func read(in target: ConnectionSettings) async throws -> UnfinishedRestore {
        try await Connection.opened(target.restoring) { connection in
            try await connection.with { connection in
                guard let found = try Self.own(on: connection).first(where: { $0.schema == schema }) else {
                    throw PostgresError(.badValue, "the schema \(schema), which records the restore, no longer exists")
                }
                return found
            }
        }
    }

    /// Returns the record of the unfinished restore of a selection by the session's role.
    ///
    /// - Throws: `BackupError.noUnfinished`; `.notThoseRestored` if a restored table no longer exists, or if another
    ///   table now has its name; `PostgresError`.
    public static func find(
        in target: ConnectionSettings, of selection: PartialRestore.Selection
    ) async throws -> UnfinishedRestore {
        try await Connection.opened(target.restoring) { connection in
            try await connection.with { connection in
                let mine = try own(on: connection).filter { $0.isOf(selection) }
                guard let record = try mine.last(where: { try $0.gone(on: connection).isEmpty }) ?? mine.last else {
                    throw BackupError.noUnfinished(selection.tables + selection.schemas.map { "schema \($0)" })
                }
                try record.checkTables(on: connection)
                return record
            }
        }
    }

    /// Checks that the names of the tables still refer to the restored tables.
    ///
    /// - Throws: `BackupError.notThoseRestored`; `PostgresError`.
    func checkTables(on connection: isolated Connection) throws {
        let gone = try gone(on: connection)
        if !gone.isEmpty { throw BackupError.notThoseRestored(gone, schema: schema) }
    }

    /// Returns the tables that no longer exist under their names.
    private func gone(on connection: isolated Connection) throws -> [String] {
        try tables.map { FetchedTable(schema: $0.schema, name: $0.name).path }.enumerated().filter { index, path in
            let oid: Int? = try connection.query(
                "SELECT pg_catalog.to_regclass($1)::oid::int8", [path]
            ).first?.get(0)
            return oid == nil || oid != tables[index].oid
        }.map(\.element)
    }

    // MARK: Outcome

    enum Outcome: Sendable {
        case committed
        case notCommitted
        case unknown(reason: String)
    }

    /// Determines whether the session that ran `script`, and whose connection was lost, has committed its transaction.
    /// The application name of that session is the name of the schema.
    func outcome(in target: ConnectionSettings) async -> Outcome {
        // Runs in a separate task, because the current task may be cancelled.
        await Task {
            let end = ContinuousClock.now + target.outcomeTimeout
            var reason = "the server did not answer"
            repeat {
                do {
                    let (isRunning, isThere) = try await look(in: target)
                    if isThere { return .committed }
                    if !isRunning { return .notCommitted }
                    reason = "the transaction is still in progress"
                } catch {
                    reason = "\(error)"
                }
                try? await Task.sleep(for: .milliseconds(100))
            } while .now < end
            return .unknown(reason: reason)
        }.value
    }

    /// Checks first whether the session still runs, and then whether the schema exists. This order is necessary: only
    /// after the session has ended is it certain that everything it has committed is visible.
    private func look(in target: ConnectionSettings) async throws -> (isRunning: Bool, isThere: Bool) {
        try await Connection.opened(target.restoring) { connection in
            try await connection.with { connection in
                // The client of the restore is gone. If the session is idle in its transaction, it has not received the
                // COMMIT and never will, so it is terminated.
                _ = try connection.query(
                    """
                    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE application_name = $1 AND state LIKE 'idle in transaction%'
                    """, [schema])
                let isRunning: Bool =
                    try connection.query(
                        "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = $1", [schema]
                    ).first?.get(0) ?? true
                let isThere: Bool =
                    try connection.query("SELECT count(*) > 0 FROM pg_namespace WHERE nspname = $1", [schema])
                    .first?.get(0) ?? false
                return (isRunning, isThere)
            }
        }
    }
}
