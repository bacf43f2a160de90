import Catalog
import Postgres
import TestSupport
import Testing

/// Under what settings a system's own SQL runs.
@Suite(.database, .timeLimit(.minutes(1)))
struct SystemPathTests {
    @Test func `a system's own SQL has what changes its meaning as its database has it, and only that`() async throws {
        let database = try TestDatabase.current
        for setting in [
            "array_nulls = off", "transform_null_equals = on", "xmloption = document", "quote_all_identifiers = on",
            "standard_conforming_strings = off",
        ] {
            try await database.execute("ALTER DATABASE \(database.name) SET \(setting)")
        }
        let names = [
            "array_nulls", "transform_null_equals", "xmloption", "quote_all_identifiers",
            "standard_conforming_strings", "search_path",
        ]
        let read: @Sendable (isolated Connection) throws -> [String] = { connection in
            try names.map { try connection.query("SHOW \($0)").first?.get(0) ?? "" }
        }
        try await Connection.opened(database.settings) { connection in
            try await connection.with { connection in
                let ours = ["on", "off", "content", "off", "on", "pg_catalog, pg_temp"]
                try connection.transaction {
                    let before = try read(connection)
                    #expect(before == ours)
                    let within = try connection.underPath(of: "public") { try read(connection) }
                    #expect(within.dropLast() == ["off", "on", "document", "off", "on"])
                    let after = try read(connection)
                    #expect(after == ours)
                }
                // For the session, until it is reset.
                for statement in SystemPath.statements(schema: "public", local: false) {
                    try connection.execute(statement)
                }
                let within = try read(connection)
                #expect(within.dropLast() == ["off", "on", "document", "off", "on"])
                try connection.resetSession()
                let after = try read(connection)
                #expect(after == ours)
            }
        }
    }
}
