import Foundation
import Postgres

/// The private cluster of a run of the tests.
public enum TestCluster {
    /// The cluster, started when the first test asks. It stops when the process of the tests ends.
    public static var shared: EmbeddedCluster {
        get async throws { try await starting.value }
    }

    /// Where clusters and scratch files of this run live.
    public static let stateFolder: String =
        ProcessInfo.processInfo.environment["REEVE_TEST_STATE"] ?? "/tmp/reeve-tests-\(getuid())"

    private static let starting = Task {
        // As the program does: libpq's PQcancel raises it when the server closes the connection first.
        signal(SIGPIPE, SIG_IGN)
        var options = EmbeddedCluster.Options(stateFolder: stateFolder)
        options.programFolders = ProcessInfo.processInfo.environment["REEVE_TEST_SERVER"].map { [$0] }
        options.settings = [
            "fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_connections": "200",
            "autovacuum": "off", "shared_buffers": "64MB", "max_prepared_transactions": "4",
        ]
        return try await EmbeddedCluster.acquire(options)
    }

    /// Whether the machine has no older server than that of the tests. If it has, reports that a test is skipped that
    /// takes a backup for one of an older server, because the programs of that server cannot read it.
    public static func isOldestServer(for test: String) async throws -> Bool {
        let oldest = await ServerPrograms.installed().map(\.majorVersion).min() ?? 0
        let version = try await Connection.opened(await shared.settings(database: "postgres")) {
            await $0.serverVersion / 10000
        }
        if oldest >= version { return true }
        print("skipped: \(test): the machine has PostgreSQL \(oldest) too")
        return false
    }

    /// Runs statements in a maintenance database.
    public static func runSQL(_ sql: String...) async throws {
        try await Connection.opened(await shared.settings(database: "postgres")) { connection in
            try await connection.with { connection in for statement in sql { try connection.execute(statement) } }
        }
    }
}

/// Lets only so many at a time.
actor Turnstile {
    private var free: Int
    private var waiting: [CheckedContinuation<Void, Never>] = []

    init(_ places: Int) { free = places }

    func enter() async {
        if free > 0 {
            free -= 1
        } else {
            await withCheckedContinuation { waiting.append($0) }
        }
    }

    func leave() {
        if waiting.isEmpty { free += 1 } else { waiting.removeFirst().resume() }
    }
}
