import Foundation
import Synchronization
import TestSupport
import Testing

@testable import Postgres

/// What the owner of a database sets for all who come changes nothing of what Reeve does.
@Suite(.database, .timeLimit(.minutes(2)))
struct OwnersSettingsTests {
    private let role = "set_\(UUID().uuidString.prefix(8).lowercased())"

    private func set(_ settings: [String]) async throws {
        let database = try TestDatabase.current
        for setting in settings {
            try await database.with { try $0.execute("ALTER DATABASE \(database.name) SET \(setting)") }
        }
    }

    @Test(.server(has: .libxml), arguments: [false, true])
    func `a database with all of them set by its owner behaves the same`(behindPooler: Bool) async throws {
        let database = try TestDatabase.current
        try await set([
            "quote_all_identifiers = on", "standard_conforming_strings = off", "array_nulls = off",
            "transform_null_equals = on", "xmloption = document", "exit_on_error = on", "jit = on",
            "default_transaction_isolation = serializable", "synchronous_commit = off", "backslash_quote = off",
            "escape_string_warning = on", "DateStyle = 'SQL, DMY'", "bytea_output = escape",
        ])
        let proxy = try FaultProxy(before: database.settings, posesAsPooler: true)
        defer { proxy.close() }
        var settings = behindPooler ? proxy.settings(database.settings) : database.settings
        settings.pooling = behindPooler ? .detected : .refused
        try await Connection.opened(settings) { connection in
            #expect(await connection.isPooled == behindPooler)
            let texts: [String] = try await connection.with { connection in
                let row = try #require(
                    try connection.query(
                        """
                        SELECT pg_catalog.quote_ident('a'), 'b\\c', ((NULL = NULL) IS NULL)::text,
                            (($1::text[])[1] IS NULL)::text, ('x<a/>'::xml)::text,
                            pg_catalog.current_setting('transaction_isolation'),
                            pg_catalog.current_setting('synchronous_commit')
                        """, ["{NULL}"]
                    ).first)
                return try (0..<7).map { try row.get($0) }
            }
            #expect(texts == ["a", "b\\c", "true", "true", "x<a/>", "read committed", "on"])
            // An error is an answer, and the session goes on.
            let error = await #expect(throws: PostgresError.self) {
                try await connection.with { try $0.query("SELECT 1 / $1::int", [0]) }
            }
            #expect(error?.sqlState == "22012")
            #expect(try await connection.value("SELECT 7") == 7)
            let isolation = try await connection.with { connection in
                try connection.transaction {
                    try connection.query("SHOW transaction_isolation").first?.get(0, as: String.self)
                }
            }
            #expect(isolation == "read committed")
        }
    }

    /// The session's own defaults have the owner's values, and a reset returns to them.
    @Test func `what the owner of the database chose is reverted after a reset too`() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE ROLE \(role)", "GRANT \(role) TO postgres")
        try await set(["synchronous_commit = off", "role = \(role)"])
        try await Connection.opened(database.settings) { connection in
            let found = try await connection.with { connection in
                try (0..<2).map { _ in
                    try connection.execute("SET synchronous_commit = local; SET ROLE pg_monitor")
                    try connection.resetSession()
                    let row = try connection.query(
                        "SELECT current_user::text, pg_catalog.current_setting('synchronous_commit')"
                    ).first
                    return [try row?.get(0) ?? "", try row?.get(1) ?? ""]
                }
            }
            #expect(found == [["postgres", "on"], ["postgres", "on"]])
        }
        try await TestCluster.runSQL("ALTER DATABASE \(database.name) RESET role", "DROP ROLE \(role)")
    }

    @Test func `synchronous_commit is raised only where the owner of the database lowered it`() async throws {
        let database = try TestDatabase.current
        func found(_ settings: ConnectionSettings) async throws -> String {
            try await Connection.opened(settings) { try await $0.value("SHOW synchronous_commit") }
        }
        // The server's, in this cluster.
        #expect(try await found(database.settings) == "off")
        try await set(["synchronous_commit = local"])
        #expect(try await found(database.settings) == "local")
        try await set(["synchronous_commit = off"])
        #expect(try await found(database.settings) == "on")
        var asked = database.settings
        asked.parameters["options"] = "-c synchronous_commit=off"
        #expect(try await found(asked) == "off")
        try await database.execute(
            "CREATE ROLE \(role) LOGIN", "ALTER ROLE \(role) SET synchronous_commit = off")
        var user = database.settings
        user.parameters["user"] = role
        #expect(try await found(user) == "off")
        try await database.execute("DROP ROLE \(role)")
    }
}
