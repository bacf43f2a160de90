import Catalog
import Foundation
import Postgres
import Processes
import TestSupport
import Testing

/// What pg_dump and psql bring back means the same.
@Suite(.heavy, .timeLimit(.minutes(8)))
struct DumpTests {
    /// Restores a database into a new one, by a script, and hands the settings of that to `body`.
    private func restored(_ source: ConnectionSettings, _ body: (ConnectionSettings) async throws -> Void) async throws
    {
        let name = "r_\(UUID().uuidString.prefix(8).lowercased())"
        try await TestCluster.runSQL("CREATE DATABASE \(name)")
        let target = source.database(name)
        do {
            let script = "/tmp/\(name).sql"
            defer { try? FileManager.default.removeItem(atPath: script) }
            let programs = await ServerPrograms.installed()
            let folder = try #require(programs.first)
            let dump = try await Command(folder.path("pg_dump"), ["--file", script, "--dbname", source.uri]).run()
            try #require(dump.succeeded, "\(dump.errorOutput)")
            let restore = try await Command(
                folder.path("psql"), ["-XqAt", "-v", "ON_ERROR_STOP=1", "-f", script, "-d", target.uri]
            ).run()
            try #require(restore.succeeded, "\(restore.errorOutput)")
            try await body(target)
        } catch {
            try? await TestCluster.runSQL("DROP DATABASE IF EXISTS \(name) WITH (FORCE)")
            throw error
        }
        try await TestCluster.runSQL("DROP DATABASE IF EXISTS \(name) WITH (FORCE)")
    }

    private func read(_ settings: ConnectionSettings) async throws -> SchemaCatalog {
        var reader = CatalogReader(.all)
        reader.readsDependencies = true
        return try await Connection.opened(settings) { [reader] connection in
            try await connection.with { try reader.read(on: $0) }
        }
    }

    @Test(.database(Zoo.template)) func zooIsTheSameAfterARestore() async throws {
        let settings = try TestDatabase.current.settings
        // Spelled in one way where it was written, and in another where it was restored.
        try await TestDatabase.current.execute(
            """
            ALTER TABLE zoo.animals ADD CONSTRAINT known_name CHECK (name IN ('Emil', 'Fritz', 'nobody'));
            CREATE INDEX by_name ON zoo.animals (born) WHERE name IN ('Emil', 'Fritz');
            CREATE VIEW zoo.few AS SELECT * FROM zoo.animals WHERE name IN ('Emil', 'Fritz');
            CREATE POLICY few ON zoo.animals USING (name IN ('Emil', 'Fritz'))
            """)
        let original = try await read(settings)
        try await restored(settings) { once in
            let copy = try await read(once)
            #expect(CatalogDiff().differences(expected: original, found: copy) == [])
            #expect(SchemaSnapshot.text(of: original) == SchemaSnapshot.text(of: copy))
            try await restored(once) { twice in
                let second = try await read(twice)
                #expect(CatalogDiff().differences(expected: original, found: second) == [])
            }
        }
    }

    @Test(.database(DatabaseTemplate.systems)) func theSystemsAreTheSameAfterARestore() async throws {
        let settings = try TestDatabase.current.settings
        let original = try await read(settings)
        try await restored(settings) { copy in
            let found = try await read(copy)
            #expect(CatalogDiff().differences(expected: original, found: found) == [])
            #expect(SchemaSnapshot.text(of: original) == SchemaSnapshot.text(of: found))
        }
    }
}
