import Foundation
import Processes
import Telemetry

/// A PostgreSQL cluster of this program's own: initialised under a state folder, reachable by a Unix socket only.
///
/// Whoever holds a value of this type needs the cluster. When the last holder among all processes releases it, or
/// dies however it may, a process that waits for the holders' lock stops the cluster.
public final class EmbeddedCluster: Sendable {
    public struct Options: Sendable {
        /// The cluster lives in the folder `cluster` below it.
        public var stateFolder: String
        /// The database that is made on first use.
        public var database = "reeve"
        /// Further server settings, for instance `fsync` off in tests.
        public var settings: [String: String] = [:]
        public var startTimeout: Duration = .seconds(60)
        /// Where the server's programs are looked for; nil: where distributions put them, and in PATH.
        public var programFolders: [String]?
        /// Whether root has the server run under an account that runs no other server, as far as there is one, and where
        /// namespaces can be made (`canRunApart`) in some of its own, with which everything ends that it started: for code
        /// that nobody vouches for. The folder beside `stateFolder` is out of its sight then.
        public var runsApart = false

        public init(stateFolder: String) { self.stateFolder = stateFolder }
    }

    private let folder: ClusterFolder
    private let options: Options
    private let holder: FileLock
    /// Where the server runs apart.
    private let isolated: IsolatedServer?
    /// Whether this call made the cluster; its first user may want to fill it.
    public let wasCreated: Bool

    private init(
        folder: ClusterFolder, options: Options, holder: FileLock, isolated: IsolatedServer? = nil, wasCreated: Bool
    ) {
        self.folder = folder
        self.options = options
        self.holder = holder
        self.isolated = isolated
        self.wasCreated = wasCreated
    }

    /// Whether `Options.runsApart` is done on this machine, so that nothing outlives the server and nothing of others is in
    /// its reach.
    public static var canRunApart: Bool {
        get async {
            guard ServerAccount.current(isApart: true).user == ServerAccount.unused else { return false }
            return await IsolatedServer.isPossible
        }
    }

    /// How to connect to a database of the cluster as its superuser.
    public func settings(database: String? = nil) -> ConnectionSettings {
        Self.settings(folder, database ?? options.database)
    }

    /// How to connect to a cluster that may not be running.
    public static func settings(for options: Options) -> ConnectionSettings {
        settings(folder(of: options), options.database)
    }

    private static func settings(_ folder: ClusterFolder, _ database: String) -> ConnectionSettings {
        ConnectionSettings(parameters: [
            "host": folder.socket, "port": "5432", "user": "postgres", "dbname": database,
        ])
    }

    private static func folder(of options: Options) -> ClusterFolder {
        let state = URL(fileURLWithPath: options.stateFolder)
        return ClusterFolder(path: state.appendingPathComponent("cluster").standardizedFileURL.path)
    }

    /// Finds the cluster running, or starts it, making it first if need be.
    ///
    /// - Throws: `EmbeddedClusterError`, `CommandError`, `PostgresError`.
    public static func acquire(_ options: Options, logger: Logger = .silent) async throws -> EmbeddedCluster {
        let folder = folder(of: options)
        let account = ServerAccount.current(isApart: options.runsApart)
        try prepare(folder, account)
        // Made and started by one at a time; the shared lock is taken first, so that nobody stops it meanwhile.
        let (starting, holder) = try await onOwnThread(named: "cluster lock") {
            let starting = try FileLock(folder.startLock, .exclusive, limit: options.startTimeout)
            return (starting, try FileLock(folder.holdersLock, .shared, limit: options.startTimeout))
        }
        defer { withExtendedLifetime(starting) {} }
        defer { withExtendedLifetime(starting) {} }
        if options.runsApart, await canRunApart {
            let server = ClusterServer(folder: folder, account: account, options: options, logger: logger)
            return try await startIsolated(server, holder)
        }
        var cluster = EmbeddedCluster(folder: folder, options: options, holder: holder, wasCreated: false)
        if try await cluster.isAnswering() {
            logger.debug("found the embedded PostgreSQL running", [LogField("folder", folder.path)])
            try startWatcher(folder, account)
        } else {
            let server = ClusterServer(folder: folder, account: account, options: options, logger: logger)
            let created = try await server.start { try startWatcher(folder, account) }
            cluster = EmbeddedCluster(folder: folder, options: options, holder: holder, wasCreated: created)
        }
        try await cluster.makeDatabase()
        return cluster
    }

    private static func startIsolated(_ server: ClusterServer, _ holder: FileLock) async throws -> EmbeddedCluster {
        let (folder, options) = (server.folder, server.options)
        let isolated = try await server.startIsolated()
        let cluster = EmbeddedCluster(
            folder: folder, options: options, holder: holder, isolated: isolated, wasCreated: true)
        do {
            let end = ContinuousClock.now + options.startTimeout
            while !(try await cluster.isAnswering()) {
                if isolated.hasEnded || ContinuousClock.now >= end {
                    throw EmbeddedClusterError.program("postgres", output: "it does not answer" + server.logTail())
                }
                try await Task.sleep(for: .milliseconds(20))
            }
            try await cluster.makeDatabase()
            return cluster
        } catch {
            await cluster.stop()
            throw error
        }
    }

    /// Stops the server at once and removes the folder: for clusters that were made to be thrown away. What cannot be
    /// removed stays; see `remove`.
    public func destroy() async {
        await stop()
        // In a task of its own, for this one may be cancelled: a server must not outlive its folder.
        await Task { [folder] in try? await folder.remove() }.value
    }

    private func stop() async {
        if let isolated {
            holder.release()
            await isolated.end()
        } else if let programs = try? String(contentsOfFile: folder.marker, encoding: .utf8) {
            let bin = programs.trimmingCharacters(in: .whitespacesAndNewlines)
            let stop = ServerAccount.current(isApart: options.runsApart).command(
                "\(bin)/pg_ctl", ["stop", "-D", folder.data, "-m", "immediate", "-w", "-t", "30", "-s"])
            await Task { _ = try? await stop.run(limit: .seconds(40)) }.value
        }
    }

    /// Removes the folder of a cluster whose server has ended, if it is there.
    ///
    /// - Throws: `EmbeddedClusterError.folder` when something is left.
    public static func remove(_ options: Options) async throws { try await folder(of: options).remove() }

    private static func prepare(_ folder: ClusterFolder, _ account: ServerAccount) throws {
        do {
            try FileManager.default.createDirectory(atPath: folder.path, withIntermediateDirectories: true)
        } catch {
            throw EmbeddedClusterError.folder(folder.path, reason: error.localizedDescription)
        }
        try folder.checkOwnership()
        try account.checkEntry(to: folder.path)
    }

    /// Leaves a process behind that waits until nobody holds the cluster, and stops it. Only one waits at a time; a
    /// second gives up after a while in which one that is just ending would have ended. A server whose starter was killed
    /// may still be about to start, so it is tried a few times.
    private static func startWatcher(_ folder: ClusterFolder, _ account: ServerAccount) throws {
        guard let programs = try? String(contentsOfFile: folder.marker, encoding: .utf8) else { return }
        let bin = programs.trimmingCharacters(in: .whitespacesAndNewlines)
        let stop = account.command("\(bin)/pg_ctl", ["stop", "-D", folder.data, "-m", "fast", "-w", "-t", "60", "-s"])
        let script = #"d=$1; shift; for i in 1 2 3 4 5; do [ -d "$d" ] || exit 0; "$@" && exit 0; sleep 1; done"#
        let arguments =
            ["-w", "5", folder.watchLock, "flock", "-x", folder.holdersLock, "sh", "-c", script, "sh", folder.data]
            + [stop.program] + stop.arguments
        _ = try ChildProcess(Command("flock", arguments), newSession: true)
    }

    /// Whether the server of this very folder answers on the socket.
    private func isAnswering() async throws -> Bool {
        guard FileManager.default.fileExists(atPath: "\(folder.socket)/.s.PGSQL.5432") else { return false }
        guard let connection = try? await Connection.open(settings(database: "postgres")) else { return false }
        let directory = try await connection.with { try $0.query("SHOW data_directory").first?.get(0, as: String.self) }
        await connection.close()
        let found = directory.map { URL(fileURLWithPath: $0).resolvingSymlinksInPath().path }
        return found == URL(fileURLWithPath: folder.data).resolvingSymlinksInPath().path
    }

    private func makeDatabase() async throws {
        let name = options.database
        try await Connection.opened(settings(database: "postgres")) { connection in
            try await connection.with { connection in
                let there = try connection.query("SELECT 1 FROM pg_database WHERE datname = $1", [name])
                if there.isEmpty {
                    try connection.execute(
                        "CREATE DATABASE \(quoteIdentifier(name)) ENCODING 'UTF8' TEMPLATE template0")
                }
            }
        }
    }
}
