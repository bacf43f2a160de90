/// An application whose schema is migrated: a folder of migrations, and the schema in which they are applied.
public struct MigrationSystem: Sendable, Equatable {
    public let name: String
    /// The PostgreSQL schema in which objects with unqualified names are created.
    public let schema: String
    /// The systems that must be migrated before this one.
    public let requires: [String]
    public let description: String
    /// The folder of the migration files.
    public let folder: String
    /// The chosen options. An opt-in migration is applied only if its option is among them.
    public let options: Set<String>

    public init(
        name: String, schema: String, requires: [String] = [], description: String = "", folder: String,
        options: Set<String> = []
    ) {
        self.name = name
        self.schema = schema
        self.requires = requires
        self.description = description
        self.folder = folder
        self.options = options
    }

    /// Returns the systems in an order in which each system follows those that it requires.
    ///
    /// - Throws: `MigrationError.missingRequirement`, `MigrationError.requirementCycle`.
    public static func ordered(_ systems: [MigrationSystem]) throws -> [MigrationSystem] {
        let byName = Dictionary(systems.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        var done: [MigrationSystem] = []
        var open: [String] = []
        func visit(_ system: MigrationSystem) throws {
            if done.contains(system) { return }
            if open.contains(system.name) { throw MigrationError.requirementCycle(open + [system.name]) }
            open.append(system.name)
            for name in system.requires {
                guard let required = byName[name] else {
                    throw MigrationError.missingRequirement(system: system.name, requirement: name)
                }
                try visit(required)
            }
            open.removeLast()
            done.append(system)
        }
        for system in systems { try visit(system) }
        return done
    }
}
