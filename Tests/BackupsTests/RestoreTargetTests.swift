import Foundation
import Postgres
import Storage
import TestSupport
import Testing

@testable import Backups

/// What a restore asks of its target, and where a restore test goes without server programs.
@Suite(.heavy, .timeLimit(.minutes(8)))
struct RestoreTargetTests {
    /// The manifest with something else in it.
    private func changed(_ manifest: Manifest, _ change: (inout [String: Any]) -> Void) throws -> Manifest {
        let data = try JSONEncoder().encode(manifest)
        var object = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
        change(&object)
        return try JSONDecoder().decode(Manifest.self, from: JSONSerialization.data(withJSONObject: object))
    }

    @Test(.database) func whatTheTargetLacksIsNamedBeforeTheFirstByte() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let role = "lost_\(UUID().uuidString.prefix(8).lowercased())"
        try await TestCluster.runSQL("CREATE ROLE \(role)")
        try await database.execute("CREATE TABLE t (a integer)", "ALTER TABLE t OWNER TO \(role)")
        let made = try await vault.maker(database.settings).make().manifest
        #expect(made.neededRoles.contains(role) && made.extensions["plpgsql"] != nil)
        try await database.execute("DROP TABLE t", "DROP ROLE \(role)")
        let manifest = try changed(made) { object in
            var extensions = object["extensions"] as? [String: String] ?? [:]
            extensions["no_such_extension"] = "1.0"
            object["extensions"] = extensions
            object["server"] = 990_000
        }
        let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: vault.restoring)
        let error = await #expect(throws: BackupError.self) { try await restorer.restore(into: database.settings) }
        let text = "\(try #require(error))"
        #expect(text.contains(role) && text.contains("no_such_extension") && text.contains("PostgreSQL 99"), "\(text)")
        let relations: Int = try await database.value("SELECT count(*) FROM pg_class WHERE relname = 't'")
        let limit: Int = try await database.value(
            "SELECT datconnlimit FROM pg_database WHERE datname = current_database()")
        #expect(relations == 0 && limit == -1)
        // Made on demand, it is in order.
        let name = "r_\(UUID().uuidString.prefix(8).lowercased())"
        try await TestCluster.runSQL("CREATE DATABASE \(name) CONNECTION LIMIT 17")
        let target = database.settings.database(name)
        var settings = vault.restoring
        settings.makesRoles = true
        try await Restorer(repository: vault.repository, manifest: made, settings: settings).restore(into: target)
        let after = try await Connection.opened(target) {
            try await $0.value("SELECT datconnlimit FROM pg_database WHERE datname = current_database()", as: Int.self)
        }
        #expect(after == 17)
        try await TestCluster.runSQL("DROP DATABASE \(name) WITH (FORCE)", "DROP ROLE \(role)")
    }

    @Test(.database) func aSessionInTheTargetIsSaid() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        let name = "r_\(UUID().uuidString.prefix(8).lowercased())"
        try await TestCluster.runSQL("CREATE DATABASE \(name)")
        let target = database.settings.database(name)
        let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: vault.restoring)
        let said = try await Connection.opened(target) { _ -> String in
            do {
                try await restorer.restore(into: target)
                return ""
            } catch {
                return "\(error)"
            }
        }
        #expect(said.contains("a session is in"), "\(said)")
        try await TestCluster.runSQL("DROP DATABASE \(name) WITH (FORCE)")
    }

    @Test(.database) func withoutServerProgramsAScratchDatabaseServes() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await database.execute("CREATE TABLE t AS SELECT generate_series(1, 100) AS a")
        let made = try await vault.maker(database.settings).make().manifest
        // Of a version that is not installed here, but that is restored by what is.
        let manifest = try changed(made) { $0["server"] = 140_000 }
        func test(beside: ConnectionSettings?) async throws -> Proof {
            try await RestoreTest(
                repository: vault.repository, manifest: manifest, settings: vault.restoring,
                folder: "\(vault.folder)/scratch", beside: beside
            ).run()
        }
        let proof = try await test(beside: database.settings)
        // The test cluster's roles come and go with other tests.
        #expect(proof.differences.filter { $0.kind != "role" } == [], "\(proof.differences)")
        await #expect(throws: BackupError.self) { _ = try await test(beside: nil) }
    }

    @Test func statementsAboutRolesAreKnown() {
        #expect(RoleStatement("CREATE ROLE a")?.roles == ["a"])
        #expect(RoleStatement("ALTER ROLE \"odd \"\" one\" WITH LOGIN")?.roles == ["\"odd \"\" one\""])
        #expect(RoleStatement("ALTER ROLE a SET search_path TO 'x'")?.roles == ["a"])
        #expect(RoleStatement("GRANT \"a b\" TO c WITH ADMIN OPTION GRANTED BY postgres")?.roles == ["\"a b\"", "c"])
        #expect(RoleStatement("SET client_encoding = 'UTF8'") == nil)
        #expect(RoleStatement("GRANT a TO c")?.isAbout(["a"]) == false)
        #expect(RoleStatement("GRANT a TO c")?.isAbout(["a", "c"]) == true)
    }

    @Test func aThrottleLetsPassWhatItMay() {
        let throttle = Throttle(1_000_000)
        let began = ContinuousClock.now
        for _ in 0..<5 { throttle.pass(50_000) }
        #expect(ContinuousClock.now - began >= .milliseconds(240))
    }
}
