import Foundation
import Postgres
import SQL
import TestSupport
import Testing

@testable import Catalog

/// Passwords of foreign servers, user mappings and subscriptions are seen to differ, and shown nowhere.
@Suite(.heavy, .timeLimit(.minutes(8)))
struct SecretTests {
    private static let secrets = ["geheim", "tops3cret", "hunter2", "swordfish"]

    private func read(_ connection: isolated Connection) throws -> SchemaCatalog {
        var reader = CatalogReader(.schemas(["app"]))
        reader.readsDependencies = true
        return try reader.read(on: connection)
    }

    private func expectNothing(in text: String) {
        for secret in Self.secrets { #expect(!text.contains(secret), "\(text)") }
    }

    @Test(.database) func aChangedSecretIsSeenAndNotShown() async throws {
        try await TestDatabase.current.execute(
            "CREATE SCHEMA app", "CREATE FOREIGN DATA WRAPPER w",
            "CREATE SERVER s FOREIGN DATA WRAPPER w OPTIONS (host 'h', password 'geheim', uri 'http://u:tops3cret@h/', "
                + "dbname '{\"api-key\": \"swordfish\"}', pw 'hunter2')",
            "CREATE USER MAPPING FOR CURRENT_USER SERVER s OPTIONS (user 'u', password 'hunter2', anything 'swordfish')",
            "CREATE FOREIGN TABLE app.t (a integer OPTIONS (secret_name 'geheim')) SERVER s OPTIONS (api_key 'geheim')")
        try await TestDatabase.current.with { connection in
            let expected = try read(connection)
            #expect(
                expected[ObjectIdentity(.foreignServer, "s")]?["options"]
                    == "dbname=<hidden>, host=h, password=<hidden>, pw=<hidden>, uri=<hidden>")
            expectNothing(in: SchemaSnapshot.text(of: expected))
            #expect(CatalogDiff().differences(expected: expected, found: try read(connection)) == [])
            for sql in [
                "ALTER SERVER s OPTIONS (SET password 'hunter2')",
                "ALTER USER MAPPING FOR CURRENT_USER SERVER s OPTIONS (SET anything 'geheim')",
                "ALTER FOREIGN TABLE app.t OPTIONS (SET api_key 'tops3cret')",
                "ALTER FOREIGN TABLE app.t ALTER a OPTIONS (SET secret_name 'swordfish')",
            ] {
                let before = try read(connection)
                try connection.execute(sql)
                let after = try read(connection)
                let differences = CatalogDiff().differences(expected: before, found: after)
                #expect(differences.count == 1, "\(sql)")
                for lossy in [false, true] {
                    let script = Mender(expected: before, found: after, owner: "o").script(
                        for: differences, lossy: lossy)
                    #expect(script.statements.isEmpty && script.withheld.count == 1, "\(sql)")
                    expectNothing(in: script.script + "\(differences)")
                }
                // A snapshot contains no secret, so nothing is known.
                let parsed = try SchemaSnapshot.parse(SchemaSnapshot.text(of: before), file: "f").catalog
                #expect(CatalogDiff().differences(expected: parsed, found: after) == [], "\(sql)")
            }
        }
    }

    @Test(.database) func whatCannotBeCreatedWithoutASecretIsAComment() async throws {
        try await TestDatabase.current.execute("CREATE SCHEMA app")
        try await TestDatabase.current.with { connection in
            let empty = try read(connection)
            try connection.execute(
                """
                CREATE FOREIGN DATA WRAPPER w;
                CREATE SERVER s FOREIGN DATA WRAPPER w OPTIONS (host 'h', password 'geheim');
                CREATE USER MAPPING FOR PUBLIC SERVER s; CREATE TABLE app.plain (a integer);
                CREATE FOREIGN TABLE app.t (a integer) SERVER s; CREATE VIEW app.v AS SELECT * FROM app.t
                """)
            let full = try read(connection)
            let differences = CatalogDiff().differences(expected: full, found: empty)
            let script = Mender(expected: full, found: empty, owner: "o").script(for: differences, lossy: true)
            // What needs the server is withheld with it.
            #expect(
                script.statements.map { $0.sql.prefix(26) } == [
                    "CREATE FOREIGN DATA WRAPPE", "CREATE TABLE app.plain (\n ",
                ])
            let drop = Mender(expected: empty, found: full, owner: "o")
            let back = CatalogDiff().differences(expected: empty, found: full)
            let harmless = drop.script(for: back, lossy: false)
            #expect(harmless.withheld.contains { $0.loss?.contains("hidden options") == true })
            for statement in drop.script(for: back, lossy: true).statements { try connection.execute(statement.sql) }
            #expect(CatalogDiff().differences(expected: empty, found: try read(connection)) == [])
        }
    }

    @Test(.database) func aPlainRoleReadsWhatItMay() async throws {
        let role = "plain_\(UUID().uuidString.prefix(8).lowercased())"
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE ROLE \(role) LOGIN", "CREATE SCHEMA app", "CREATE FOREIGN DATA WRAPPER w",
            "CREATE SERVER s FOREIGN DATA WRAPPER w",
            "CREATE USER MAPPING FOR CURRENT_USER SERVER s OPTIONS (password 'geheim')",
            "CREATE SUBSCRIPTION \(role) CONNECTION 'host=h password=geheim' PUBLICATION p, q "
                + "WITH (connect = false, slot_name = NONE)", "COMMENT ON SUBSCRIPTION \(role) IS 'news'")
        var settings = database.settings
        settings.parameters["user"] = role
        let owner: String = try await database.value("SELECT current_user::text")
        let reader = CatalogReader(.schemas(["app"]), owner: owner)
        let all = try await database.with { try reader.read(on: $0) }
        let some = try await Connection.opened(settings) { try await $0.with { try reader.read(on: $0) } }
        #expect(CatalogDiff().differences(expected: all, found: some) == [])
        #expect(some.unsupportedKinds == ["2 options or connections that the role may not read"])
        let subscription = ObjectIdentity(.subscription, role)
        #expect(all[subscription]?["connection"] == "host=h, password=<hidden>")
        #expect(all[subscription]?["comment"] == "news" && some[subscription]?["publications"] == "p, q")
        expectNothing(in: SchemaSnapshot.text(of: all) + SchemaSnapshot.text(of: some))
        try await database.execute("DROP SUBSCRIPTION \(role)", "DROP ROLE \(role)")
    }

    @Test(.database) func changesOfASubscriptionAreMended() async throws {
        let name = "sub_\(UUID().uuidString.prefix(8).lowercased())"
        let database = try TestDatabase.current
        try await database.execute("CREATE SCHEMA app")
        try await database.with { connection in
            let empty = try read(connection)
            let create =
                "CREATE SUBSCRIPTION \(name) CONNECTION 'host=h dbname=d' PUBLICATION p "
                + "WITH (connect = false, slot_name = NONE)"
            try connection.execute(create)
            let expected = try read(connection)
            for change in [
                "CONNECTION 'host=other'", "SET PUBLICATION q, r WITH (refresh = false)", "SET (binary = true)",
                "SET (streaming = true)", "SET (synchronous_commit = on)", "SET (disable_on_error = true)",
                "OWNER TO pg_database_owner",
            ] {
                guard (try? connection.execute("ALTER SUBSCRIPTION \(name) \(change)")) != nil else { continue }
                let found = try read(connection)
                let differences = CatalogDiff().differences(expected: expected, found: found)
                #expect(differences.count == 1, "\(change): \(differences)")
                let script = Mender(expected: expected, found: found, owner: "postgres")
                    .script(for: differences, lossy: false)
                for statement in script.statements { try connection.execute(statement.sql) }
                #expect(CatalogDiff().differences(expected: expected, found: try read(connection)) == [], "\(change)")
            }
            let gone = CatalogDiff().differences(expected: empty, found: expected)
            let script = Mender(expected: empty, found: expected, owner: "postgres").script(for: gone, lossy: false)
            #expect(script.statements.isEmpty && script.text.contains("-- DROP SUBSCRIPTION \(name);"))
            try connection.execute("DROP SUBSCRIPTION \(name)")
            let again = Mender(expected: expected, found: empty, owner: "postgres")
                .script(for: CatalogDiff().differences(expected: expected, found: empty), lossy: false)
            for statement in again.statements { try connection.execute(statement.sql) }
            #expect(CatalogDiff().differences(expected: expected, found: try read(connection)) == [])
            try connection.execute("DROP SUBSCRIPTION \(name)")
        }
    }
}
