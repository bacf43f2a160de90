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
                try connection.execute(SystemPath.statement(schema: "public", local: false, on: connection))
                let within = try read(connection)
                #expect(within.dropLast() == ["off", "on", "document", "off", "on"])
                try connection.resetSession()
                let after = try read(connection)
                #expect(after == ours)
            }
        }
    }

    /// Who revoked his own right takes it back whenever he likes, and what was made before stays.
    @Test(
        .server(has: .extension("citext")),
        arguments: [
            "ALTER SCHEMA ext OWNER TO %; SET ROLE %; REVOKE CREATE ON SCHEMA ext FROM %; RESET ROLE",
            "CREATE FUNCTION ext.length(varchar) RETURNS int LANGUAGE sql AS 'SELECT 1'; "
                + "ALTER FUNCTION ext.length(varchar) OWNER TO %",
            "CREATE TYPE ext.state AS ENUM ('new'); ALTER TYPE ext.state OWNER TO %",
            "CREATE VIEW ext.jobs AS SELECT 1 AS a; ALTER VIEW ext.jobs OWNER TO %",
            "CREATE FUNCTION ext.same(int, int) RETURNS bool LANGUAGE sql AS 'SELECT true'; "
                + "CREATE OPERATOR ext.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = ext.same); "
                + "ALTER OPERATOR ext.=== (int, int) OWNER TO %",
        ])
    func `an extension's schema is in the path only where nobody else is at home`(others: String) async throws {
        let database = try TestDatabase.current
        let role = "\(database.name)_other"
        let path: @Sendable (isolated Connection) throws -> String = { connection in
            try connection.transaction {
                try connection.underPath(of: "app") {
                    try connection.query("SHOW search_path").first?.get(0) ?? ""
                }
            }
        }
        try await database.execute("CREATE ROLE \(role)", "CREATE SCHEMA ext", "CREATE EXTENSION citext SCHEMA ext")
        #expect(try await database.with(path) == "app, ext, pg_temp")
        try await database.execute(others.replacing("%", with: role))
        #expect(try await database.with(path) == "app, pg_temp")
        #expect(
            try await database.with { try SystemPath.intruders(in: "ext", trusted: [], on: $0) } == [role])
        #expect(try await database.with { try SystemPath.intruders(in: "ext", trusted: [role], on: $0) } == [])
        try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
    }

    /// One session surveys again and again, and others change the schema meanwhile.
    @Test(arguments: [
        "GRANT CREATE ON SCHEMA app TO %", "ALTER SCHEMA app OWNER TO %",
        "CREATE TABLE app.theirs (a int); ALTER TABLE app.theirs OWNER TO %",
        "CREATE OPERATOR app.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq); "
            + "ALTER OPERATOR app.=== (int, int) OWNER TO %",
    ])
    func `a survey says what intruders and statement say, as it is at that moment`(change: String) async throws {
        let database = try TestDatabase.current
        let role = "\(database.name)_other"
        try await database.execute("CREATE ROLE \(role)", "CREATE SCHEMA app", "CREATE TABLE app.ours (a int)")
        try await Connection.opened(database.settings) { connection in
            let check = { @Sendable (trusted: [String]) async throws -> [String] in
                let survey = try await connection.with { try SystemPath.survey("app", trusted: trusted, on: $0) }
                try await database.with { connection in
                    let intruders = try SystemPath.intruders(in: "app", trusted: trusted, on: connection)
                    #expect(survey.intruders == intruders)
                    for local in [false, true] {
                        let statement = try SystemPath.statement(schema: "app", local: local, on: connection)
                        #expect(survey.statement(local: local) == statement)
                    }
                }
                return survey.intruders
            }
            // After five runs the server takes a plan that does not depend on the parameters.
            for _ in 0..<7 { #expect(try await check([]) == []) }
            try await database.execute(change.replacing("%", with: role))
            #expect(try await check([]) == [role])
            #expect(try await check([role]) == [])
            try await database.execute("REASSIGN OWNED BY \(role) TO postgres", "DROP OWNED BY \(role)")
            #expect(try await check([]) == [])
            // A role without superuser's rights has nothing to lose.
            try await database.execute("GRANT CREATE ON SCHEMA app TO \(role)")
            try await connection.with { _ = try $0.execute("SET ROLE pg_monitor") }
            #expect(try await connection.with { try SystemPath.survey("app", trusted: [], on: $0).intruders } == [])
            try await connection.with { try $0.resetSession() }
            #expect(try await check([]) == [role])
        }
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }

    @Test(.server(has: .extension("citext")))
    func `a survey has the schemas of extensions that are nobody else's`() async throws {
        let database = try TestDatabase.current
        let role = "\(database.name)_other"
        try await database.execute(
            "CREATE ROLE \(role)", "CREATE SCHEMA \"Ext\"", "CREATE EXTENSION citext SCHEMA \"Ext\"")
        try await Connection.opened(database.settings) { connection in
            let path = { @Sendable in
                try await connection.with { try SystemPath.survey("app", trusted: [], on: $0).statement(local: true) }
            }
            #expect(try await path().contains(#"'app, "Ext", pg_temp'"#))
            try await database.execute("GRANT CREATE ON SCHEMA \"Ext\" TO \(role)")
            #expect(try await path().contains("'app, pg_temp'"))
        }
        try await database.execute("DROP OWNED BY \(role)", "DROP ROLE \(role)")
    }
}
