import Foundation
import Migrations
import Postgres

extension DatabaseTemplate {
    /// A database with the shipped systems migrated.
    public static let systems = DatabaseTemplate("template_systems") { settings in
        _ = try await Migrator(database: Database(settings), systems: ShippedFixture.systems()).up()
    }
}

/// The shipped systems, as the repository holds them.
public enum ShippedFixture {
    public static let repository = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().path

    /// - Parameters:
    ///   - schemas: where a system is made, when not in its own schema.
    ///   - options: opt-in migrations, as system/option.
    public static func systems(
        _ names: [String] = ["posters", "advideo", "videogen", "csvbatch", "publisher"],
        schemas: [String: String] = [:],
        options: [String] = []
    ) -> [MigrationSystem] {
        let wanted = ["platform"] + names
        return wanted.map { name in
            let chosen = options.filter { $0.hasPrefix("\(name)/") }.map { String($0.dropFirst(name.count + 1)) }
            let needsPlatform = ["posters", "csvbatch", "videogen"].contains(name)
            return MigrationSystem(
                name: name, schema: schemas[name] ?? (name == "platform" ? "extensions" : name),
                requires: needsPlatform ? ["platform"] : [], folder: "\(repository)/migrations/\(name)",
                options: Set(chosen))
        }
    }
}
