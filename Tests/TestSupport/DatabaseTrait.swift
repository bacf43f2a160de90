import Foundation
import Postgres
import Testing

/// The database of the test that runs.
public struct TestDatabase: Sendable {
    @TaskLocal static var running: TestDatabase?

    public let name: String
    public let settings: ConnectionSettings

    /// - Throws: when the test does not carry the trait `.database`.
    public static var current: TestDatabase {
        get throws { try #require(running, "the test needs the trait .database") }
    }

    /// The same, on connections where names without a schema are those of `public`, as in psql.
    public var plainSettings: ConnectionSettings { settings.plain }

    /// Opens a connection for the test's own statements and closes it when `body` is done.
    @discardableResult
    public func connection<T: Sendable>(_ body: @Sendable (Connection) async throws -> T) async throws -> T {
        try await Connection.opened(plainSettings, body)
    }

    /// Runs one unit of work on a connection of its own.
    @discardableResult
    public func with<T: Sendable>(_ body: @Sendable (isolated Connection) throws -> T) async throws -> T {
        try await connection { try await $0.with(body) }
    }
}

extension ConnectionSettings {
    /// The same, with the search path that psql has.
    public var plain: ConnectionSettings {
        var plain = self
        plain.searchPath = "\"$user\", public"
        return plain
    }
}

/// Gives each test a database of its own, cloned from a template, and drops it afterwards.
public struct DatabaseTrait: TestTrait, SuiteTrait, TestScoping {
    public let isRecursive = true
    let template: DatabaseTemplate

    public func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        guard testCase != nil else { return try await function() }
        await Self.places.enter()
        do {
            try await run(function)
            await Self.places.leave()
        } catch {
            await Self.places.leave()
            throw error
        }
    }

    private static let places = Turnstile(8)

    private func run(_ function: @Sendable () async throws -> Void) async throws {
        let cluster = try await TestCluster.shared
        let name = "t_" + UUID().uuidString.lowercased().replacing("-", with: "").prefix(20)
        // Roles belong to the whole cluster: as long as this template needs them, no test takes them from another.
        _ = try await DatabaseTemplate.systems.ready()
        let source = try await template.ready()
        try await TestCluster.runSQL("CREATE DATABASE \(name) TEMPLATE \(source)")
        let database = TestDatabase(name: name, settings: cluster.settings(database: name))
        do {
            try await TestDatabase.$running.withValue(database, operation: function)
        } catch {
            try? await TestCluster.runSQL("DROP DATABASE IF EXISTS \(name) WITH (FORCE)")
            throw error
        }
        try await TestCluster.runSQL("DROP DATABASE IF EXISTS \(name) WITH (FORCE)")
    }
}

/// A database that others are cloned from, made once in a run.
public actor DatabaseTemplate {
    private let name: String
    private let fill: @Sendable (ConnectionSettings) async throws -> Void
    private var making: Task<String, any Error>?

    public init(_ name: String, fill: @escaping @Sendable (ConnectionSettings) async throws -> Void) {
        self.name = name
        self.fill = fill
    }

    /// An empty database.
    public static let empty = DatabaseTemplate("template_empty") { _ in }

    func ready() async throws -> String {
        if let making { return try await making.value }
        let task = Task { [name, fill] in
            try await TestCluster.runSQL("DROP DATABASE IF EXISTS \(name) WITH (FORCE)", "CREATE DATABASE \(name)")
            try await fill(TestCluster.shared.settings(database: name))
            return name
        }
        making = task
        return try await task.value
    }
}

extension Trait where Self == DatabaseTrait {
    /// A database of the test's own, empty.
    public static var database: Self { DatabaseTrait(template: .empty) }

    /// A database of the test's own, like `template`.
    public static func database(_ template: DatabaseTemplate) -> Self { DatabaseTrait(template: template) }
}

extension Connection {
    /// The first value of a query's only row.
    public nonisolated func value<T: PostgresDecodable>(
        _ sql: String, _ parameters: [(any PostgresEncodable)?] = [], as type: T.Type = T.self
    ) async throws -> T {
        try await with { connection in
            let row = try #require(try connection.query(sql, parameters).first, "no row: \(sql)")
            return try row.get(0, as: T.self)
        }
    }
}

extension TestDatabase {
    /// The first value of a query's only row, on a connection of its own.
    public func value<T: PostgresDecodable>(
        _ sql: String, _ parameters: [(any PostgresEncodable)?] = [], as type: T.Type = T.self
    ) async throws -> T {
        try await connection { try await $0.value(sql, parameters) }
    }

    /// How many sessions of this database wait for a lock; those of other tests' databases are not counted.
    public func waitersForLocks() async throws -> Int {
        try await value(
            """
            SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datname = pg_catalog.current_database()
                AND pg_catalog.cardinality(pg_catalog.pg_blocking_pids(pid)) > 0
            """)
    }

    /// Runs statements on a connection of their own.
    public func execute(_ sql: String...) async throws {
        try await with { connection in for statement in sql { try connection.execute(statement) } }
    }
}

/// For tests that take long: only a few of them run at once, so that the others come through.
public struct HeavyTrait: TestTrait, SuiteTrait, TestScoping {
    public let isRecursive = true
    private static let places = Turnstile(3)

    public func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        guard testCase != nil else { return try await function() }
        await Self.places.enter()
        do {
            try await function()
            await Self.places.leave()
        } catch {
            await Self.places.leave()
            throw error
        }
    }
}

extension Trait where Self == HeavyTrait {
    /// Waits until it is one of the few long tests that may run.
    public static var heavy: Self { HeavyTrait() }
}
