import Foundation
import Migrations
import Postgres
import Processes

/// A folder of migrations that a test writes.
public final class MigrationFixture: Sendable {
    public let folder: String
    public let schema: String

    /// - Parameter files: texts by file name.
    public init(schema: String = "app", _ files: [String: String] = [:]) throws {
        folder = "/tmp/reeve-migrations-\(UUID().uuidString.prefix(12))"
        self.schema = schema
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try "name: app\nschema: \(schema)\n".write(toFile: "\(folder)/system.yaml", atomically: true, encoding: .utf8)
        for (name, text) in files { try write(name, text) }
    }

    deinit { try? FileManager.default.removeItem(atPath: folder) }

    public func write(_ name: String, _ text: String) throws {
        try text.write(toFile: "\(folder)/\(name)", atomically: true, encoding: .utf8)
    }

    public func remove(_ name: String) throws {
        try FileManager.default.removeItem(atPath: "\(folder)/\(name)")
    }

    public func system(options: Set<String> = []) -> MigrationSystem {
        MigrationSystem(name: "app", schema: schema, folder: folder, options: options)
    }

    /// A migrator of this folder alone.
    public func migrator(
        _ settings: ConnectionSettings, options: Set<String> = [],
        _ change: (inout Migrator.Settings) -> Void = { _ in }
    ) throws -> Migrator {
        var migration = Migrator.Settings()
        migration.lockTimeout = .milliseconds(300)
        migration.backoff = .milliseconds(20)
        // A busy host may hold a single attempt up for longer than the default.
        migration.stallLimit = .seconds(600)
        change(&migration)
        return try Migrator(database: Database(settings), systems: [system(options: options)], settings: migration)
    }
}

extension TestDatabase {
    /// What `pg_dump --schema-only` says of the database, without what differs from dump to dump.
    public func schemaDump(excluding schema: String = "reeve") async throws -> String {
        try await dumpSchema(of: settings, excluding: schema)
    }
}

/// What `pg_dump --schema-only` says of a database.
public func dumpSchema(of settings: ConnectionSettings, excluding schema: String = "reeve") async throws -> String {
    let programs = await ServerPrograms.installed()
    guard let dump = programs.first?.path("pg_dump") else { throw NeverHappened(what: "pg_dump is installed") }
    let outcome = try await Command(dump, ["--schema-only", "--exclude-schema", schema, "--dbname", settings.uri])
        .run(outputLimit: 16 << 20)
    guard outcome.succeeded else { throw NeverHappened(what: "pg_dump succeeds: \(outcome.errorOutput)") }
    return outcome.output.split(separator: "\n")
        .filter { !$0.hasPrefix("\\restrict") && !$0.hasPrefix("\\unrestrict") }.joined(separator: "\n")
}
