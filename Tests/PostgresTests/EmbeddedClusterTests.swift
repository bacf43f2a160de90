import Foundation
import Postgres
import Processes
import TestSupport
import Testing

/// Each test has a cluster of its own beside the one of the suite.
@Suite(.timeLimit(.minutes(3)))
struct EmbeddedClusterTests {
    private func withState(_ body: (String) async throws -> Void) async throws {
        let folder = "\(TestCluster.stateFolder)/c\(UInt32.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try await body(folder)
    }

    private func options(_ folder: String) -> EmbeddedCluster.Options {
        var options = EmbeddedCluster.Options(stateFolder: folder)
        options.settings = ["fsync": "off", "shared_buffers": "8MB", "max_connections": "20"]
        return options
    }

    private func waitForStop(_ folder: String) async throws {
        try await waitUntil("the cluster stops") {
            !FileManager.default.fileExists(atPath: "\(folder)/cluster/data/postmaster.pid")
        }
    }

    private func ask(_ cluster: EmbeddedCluster, _ sql: String) async throws -> String {
        let connection = try await Connection.open(cluster.settings())
        defer { Task { await connection.close() } }
        return try await connection.value(sql)
    }

    @Test func `it is made with checksums, listens on a socket only, is adopted, and stops with its last holder`()
        async throws
    {
        try await withState { folder in
            var first: EmbeddedCluster? = try await EmbeddedCluster.acquire(options(folder))
            #expect(first?.wasCreated == true)
            var second: EmbeddedCluster? = try await EmbeddedCluster.acquire(options(folder))
            #expect(second?.wasCreated == false)
            let cluster = try #require(second)
            #expect(try await ask(cluster, "SHOW data_checksums") == "on")
            #expect(try await ask(cluster, "SHOW listen_addresses") == "")
            #expect(try await ask(cluster, "SELECT current_database()") == "reeve")
            if getuid() == 0 {
                let pid = try await ask(cluster, "SELECT pg_backend_pid()::text")
                let status = try String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)
                #expect(status.contains("\nUid:\t0\t") == false)
            }
            first = nil
            #expect(try await ask(cluster, "SELECT 'still there'") == "still there")
            second = nil
            withExtendedLifetime(first) {}
            // `cluster` is the last holder; it goes with the end of this closure.
        }
    }

    @Test func `one that is thrown away is stopped also in a task that is cancelled`() async throws {
        try await withState { folder in
            let cluster = try await EmbeddedCluster.acquire(options(folder))
            let lines = try String(contentsOfFile: "\(folder)/cluster/data/postmaster.pid", encoding: .utf8)
            let pid = try #require(lines.split(separator: "\n").first.flatMap { pid_t($0) })
            let work = Task {
                while !Task.isCancelled { try? await Task.sleep(for: .seconds(1)) }
                await cluster.destroy()
            }
            work.cancel()
            await work.value
            // One that has ended has no arguments any more, though nobody may have reaped it.
            #expect(FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") ?? Data() == Data())
            #expect(!FileManager.default.fileExists(atPath: "\(folder)/cluster"))
        }
    }

    @Test func `it stops when its last holder lets go, and starts again`() async throws {
        try await withState { folder in
            var cluster: EmbeddedCluster? = try await EmbeddedCluster.acquire(options(folder))
            #expect(cluster != nil)
            cluster = nil
            try await waitForStop(folder)
            cluster = try await EmbeddedCluster.acquire(options(folder))
            let again = try #require(cluster)
            #expect(again.wasCreated == false)
            #expect(try await ask(again, "SELECT 'again'") == "again")
        }
    }

    @Test func `it comes back after its processes were killed, with the stale pid file`() async throws {
        try await withState { folder in
            let first = try await EmbeddedCluster.acquire(options(folder))
            _ = try await ask(first, "SELECT 'up'")
            let file = "\(folder)/cluster/data/postmaster.pid"
            let text = try String(contentsOfFile: file, encoding: .utf8)
            let pid = try #require(Int32(text.split(separator: "\n")[0]))
            kill(pid, SIGKILL)
            try await waitUntil("the postmaster is gone") { kill(pid, 0) != 0 }
            #expect(FileManager.default.fileExists(atPath: file))
            let second = try await EmbeddedCluster.acquire(options(folder))
            #expect(try await ask(second, "SELECT 'back'") == "back")
        }
    }

    @Test func `a pid file that names another program is put away`() async throws {
        try await withState { folder in
            var cluster: EmbeddedCluster? = try await EmbeddedCluster.acquire(options(folder))
            _ = cluster
            cluster = nil
            try await waitForStop(folder)
            // Our own process is alive and is no PostgreSQL.
            try "\(getpid())\n\(folder)/cluster/data\n".write(
                toFile: "\(folder)/cluster/data/postmaster.pid", atomically: false, encoding: .utf8)
            let again = try await EmbeddedCluster.acquire(options(folder))
            #expect(try await ask(again, "SELECT 'back'") == "back")
        }
    }

    @Test func `many that ask at once get one cluster`() async throws {
        try await withState { folder in
            let clusters = try await withThrowingTaskGroup(of: EmbeddedCluster.self) { group in
                for _ in 0..<6 { group.addTask { try await EmbeddedCluster.acquire(self.options(folder)) } }
                return try await group.reduce(into: [EmbeddedCluster]()) { $0.append($1) }
            }
            #expect(clusters.count { $0.wasCreated } == 1)
            for cluster in clusters { #expect(try await ask(cluster, "SELECT 'x'") == "x") }
        }
    }

    @Test func `a folder of somebody else's is refused and left alone`() async throws {
        try await withState { folder in
            try FileManager.default.createDirectory(atPath: "\(folder)/cluster", withIntermediateDirectories: true)
            try "mine".write(toFile: "\(folder)/cluster/thesis.txt", atomically: true, encoding: .utf8)
            let error = await #expect(throws: EmbeddedClusterError.self) {
                try await EmbeddedCluster.acquire(options(folder))
            }
            #expect(error?.description.contains("contains something") == true)
            #expect(try String(contentsOfFile: "\(folder)/cluster/thesis.txt", encoding: .utf8) == "mine")
        }
    }

    @Test func `data of another major version are refused with what to install`() async throws {
        try await withState { folder in
            var cluster: EmbeddedCluster? = try await EmbeddedCluster.acquire(options(folder))
            _ = cluster
            cluster = nil
            try await waitForStop(folder)
            try "9\n".write(toFile: "\(folder)/cluster/data/PG_VERSION", atomically: false, encoding: .utf8)
            let error = await #expect(throws: EmbeddedClusterError.self) {
                try await EmbeddedCluster.acquire(options(folder))
            }
            #expect(error?.description.contains("made by PostgreSQL 9") == true)
            #expect(error?.hint?.contains("install PostgreSQL 9") == true)
        }
    }

    @Test func `without server programs the error tells how to install them`() async throws {
        try await withState { folder in
            var options = options(folder)
            options.programFolders = ["/nowhere"]
            let error = await #expect(throws: EmbeddedClusterError.self) { try await EmbeddedCluster.acquire(options) }
            #expect(error?.description.contains("no PostgreSQL server programs") == true)
            #expect(error?.hint?.contains("apt-get install postgresql") == true)
        }
    }

    @Test func `a long path has its socket in a folder of its own, and not in one that another made`() async throws {
        try await withState { folder in
            let long = folder + "/" + String(repeating: "long", count: 20)
            try FileManager.default.createDirectory(atPath: long, withIntermediateDirectories: true)
            let host = try #require(EmbeddedCluster.settings(for: options(long)).parameters["host"])
            #expect(host.hasPrefix("/tmp/reeve-"))
            try FileManager.default.createSymbolicLink(atPath: host, withDestinationPath: "/etc")
            await #expect(throws: EmbeddedClusterError.self) { try await EmbeddedCluster.acquire(options(long)) }
            try FileManager.default.removeItem(atPath: host)
            let cluster = try await EmbeddedCluster.acquire(options(long))
            #expect(try await ask(cluster, "SELECT 'up'") == "up")
            try? FileManager.default.removeItem(atPath: host)
        }
    }
}
