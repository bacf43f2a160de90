import Foundation
import Postgres
import Processes
import SQL
import TestSupport
import Testing

/// Servers for code that nobody vouches for, and what root does in the folders of their account.
@Suite(.heavy, .enabled("only root changes the account") { geteuid() == 0 }, .timeLimit(.minutes(3)))
struct IsolatedServerTests {
    private static let namespaces: ConditionTrait = .enabled("this machine does not allow namespaces") {
        await EmbeddedCluster.canRunApart
    }

    /// A folder of the test's own with a state folder in it, and a neighbour.
    private func withState(
        below parent: String = TestCluster.stateFolder, _ body: (_ state: String) async throws -> Void
    ) async throws {
        let folder = "\(parent)/reeve-i\(UInt32.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(
            atPath: "\(folder)/neighbour", withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try await body("\(folder)/state")
    }

    private func options(_ state: String) -> EmbeddedCluster.Options {
        var options = EmbeddedCluster.Options(stateFolder: state)
        options.settings = ["fsync": "off", "shared_buffers": "8MB", "max_connections": "20"]
        options.runsApart = true
        return options
    }

    private func run(_ sql: String..., on cluster: EmbeddedCluster) async throws {
        try await Connection.opened(cluster.settings()) { connection in
            try await connection.with { connection in for statement in sql { try connection.execute(statement) } }
        }
    }

    /// What a program prints that the server starts.
    private func output(_ program: String, on cluster: EmbeddedCluster) async throws -> [String] {
        try await Connection.opened(cluster.settings()) { connection in
            try await connection.with { connection in
                try connection.execute(
                    "CREATE TEMPORARY TABLE said (line text); COPY said FROM PROGRAM \(quoteLiteral(program))")
                return try connection.query("SELECT line FROM said").map { try $0.get(0) }
            }
        }
    }

    /// How many processes have been started with this word.
    private func processes(with word: String) -> Int {
        let all = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return all.filter { pid in
            guard Int(pid) != nil, let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") else {
                return false
            }
            return String(decoding: line, as: UTF8.self).split(separator: "\0").contains { $0 == word }
        }.count
    }

    private func leaveBehind(_ word: String, on cluster: EmbeddedCluster) async throws {
        // A program that does not read is a broken pipe to the server.
        let detached = "setsid nohup sleep \(word) >/dev/null 2>&1 </dev/null &"
        try await run(
            "COPY (SELECT 1) TO PROGRAM \(quoteLiteral("cat >/dev/null; \(detached)"))",
            "COPY (SELECT 1) TO PROGRAM \(quoteLiteral("cat >/dev/null; ( ( \(detached) ) & )"))", on: cluster)
        try await waitUntil("both run") { processes(with: word) == 2 }
    }

    @Test(namespaces) func `whatever the server started ends with it`() async throws {
        try await withState { state in
            let word = "9\(UInt32.random(in: 0 ... .max))"
            let cluster = try await EmbeddedCluster.acquire(options(state))
            try await leaveBehind(word, on: cluster)
            await cluster.destroy()
            #expect(processes(with: word) == 0)
            #expect(!FileManager.default.fileExists(atPath: "\(state)/cluster"))
        }
    }

    @Test(namespaces) func `it ends with its holder`() async throws {
        try await withState { state in
            let word = "9\(UInt32.random(in: 0 ... .max))"
            var cluster: EmbeddedCluster? = try await EmbeddedCluster.acquire(options(state))
            try await leaveBehind(word, on: try #require(cluster))
            cluster = nil
            try await waitUntil("all have ended") { processes(with: word) == 0 }
            // Nobody waits for it any more; then the folder goes without a rest.
            try await waitUntil("it is removed") {
                (try? await EmbeddedCluster.remove(options(state))) != nil
            }
        }
    }

    /// In a folder that all servers share, and in one that none does.
    @Test(namespaces, arguments: [TestCluster.stateFolder, "/var/lib"])
    func `it sees neither others' files and processes nor the network`(parent: String) async throws {
        try await withState(below: parent) { state in
            let cluster = try await EmbeddedCluster.acquire(options(state))
            let folder = (state as NSString).deletingLastPathComponent
            #expect(try await output("ls \(folder)", on: cluster) == ["state"])
            // The first is root's and keeps the others.
            let accounts = try await output("stat -c %u /proc/[0-9]*; echo", on: cluster)
            #expect(accounts.count < 20 && accounts.first == "0")
            #expect(try await output("cat /proc/1/cmdline | tr '\\0' ' ' | cut -c 1-3", on: cluster).first == "sh ")
            #expect(try await output("grep -c : /proc/net/dev", on: cluster) == ["1"])
            let outside = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/ns/ipc")
            let inside = try await output("readlink /proc/self/ns/ipc", on: cluster)
            #expect(inside.first?.hasPrefix("ipc:") == true && inside != [outside], "\(inside)")
            #expect(try await output("ls /dev/shm | grep -vc PostgreSQL || :", on: cluster) == ["0"])
            #expect(try await output("grep -c 'NoNewPrivs:.1' /proc/self/status", on: cluster) == ["1"])
            await cluster.destroy()
        }
    }

    /// Programs of the server's that put a link to a file of root's where root might write.
    @Test(arguments: [true, false])
    func `root writes through no link in a folder of the server's account`(isApart: Bool) async throws {
        try await withState { state in
            let folder = (state as NSString).deletingLastPathComponent
            let real = try #require(await ServerPrograms.installed().first)
            let (programs, precious) = ("\(folder)/bin", "\(folder)/precious")
            try FileManager.default.createDirectory(atPath: programs, withIntermediateDirectories: true)
            try "root's\n".write(toFile: precious, atomically: true, encoding: .utf8)
            for name in ["postgres", "pg_ctl", "initdb"] {
                let script = """
                    #!/bin/sh
                    [ \(name) = initdb ] || exec \(real.path(name)) "$@"
                    \(real.path(name)) "$@" || exit
                    mv "$2/postgresql.conf" "$2/real.conf" && ln -s \(precious) "$2/postgresql.conf"
                    """
                try script.write(toFile: "\(programs)/\(name)", atomically: true, encoding: .utf8)
                chmod("\(programs)/\(name)", 0o755)
            }
            var options = options(state)
            options.runsApart = isApart
            options.programFolders = [programs]
            await #expect(throws: EmbeddedClusterError.self) { try await EmbeddedCluster.acquire(options) }
            #expect(try String(contentsOfFile: precious, encoding: .utf8) == "root's\n")
            try await EmbeddedCluster.remove(options)
        }
    }

    /// As if a folder of root's had been put under another name while root removes by names.
    @Test func `a cluster is removed with the rights of its account alone, and what is left is said`() async throws {
        try await withState { state in
            let cluster = try await EmbeddedCluster.acquire(options(state))
            let data = "\(state)/cluster/data"
            try await run(
                "COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; mkdir \(data)/own && chmod 0 \(data)/own'", on: cluster)
            let others = "\(data)/others"
            try FileManager.default.createDirectory(atPath: others, withIntermediateDirectories: false)
            try "root's\n".write(toFile: "\(others)/precious", atomically: true, encoding: .utf8)
            await cluster.destroy()
            #expect(FileManager.default.fileExists(atPath: "\(others)/precious"))
            let error = await #expect(throws: EmbeddedClusterError.self) {
                try await EmbeddedCluster.remove(options(state))
            }
            #expect(error?.description.contains("\(others)/precious") == true, "\(String(describing: error))")
            #expect(try FileManager.default.contentsOfDirectory(atPath: data) == ["others"])
            try FileManager.default.removeItem(atPath: others)
            try await EmbeddedCluster.remove(options(state))
            #expect(!FileManager.default.fileExists(atPath: "\(state)/cluster"))
        }
    }
}
