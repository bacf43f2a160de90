import Foundation
import Processes
import SQL
import Telemetry

/// Creates and starts the server of one cluster folder. The caller must hold the start lock.
struct ClusterServer {
    let folder: ClusterFolder
    let account: ServerAccount
    let options: EmbeddedCluster.Options
    let logger: Logger

    /// - Parameter watch: starts the process that later stops the server. It is called before the server is started, so
    ///   that no server is left running without such a process.
    /// - Returns: whether the cluster was created by this call.
    func start(watch: () throws -> Void) async throws -> Bool {
        let programs = try await choosePrograms()
        let isNew = folder.majorVersion == nil
        if isNew { try await initialise(programs) }
        try writeSettings(programs)
        try await folder.removeStalePidFile(as: account)
        try watch()
        let began = ContinuousClock.now
        let start = account.command(
            programs.path("pg_ctl"),
            [
                "start", "-D", folder.data, "-l", folder.log, "-w", "-s", "-t",
                String(options.startTimeout.components.seconds),
            ])
        let outcome = try await start.run(limit: options.startTimeout + .seconds(5))
        guard outcome.succeeded else {
            throw EmbeddedClusterError.program("pg_ctl start", output: outcome.errorOutput + logTail())
        }
        logger.info(
            "started the embedded PostgreSQL",
            [
                LogField("version", programs.majorVersion), LogField("folder", folder.path),
                LogField("milliseconds", (ContinuousClock.now - began).milliseconds),
            ])
        return isNew
    }

    /// Creates a cluster and starts its server in separate namespaces (`IsolatedServer`). Does not wait until the
    /// server answers.
    func startIsolated() async throws -> IsolatedServer {
        let programs = try await choosePrograms()
        // An existing cluster is refused: the PID in its pid file may belong to another PID namespace, and then does
        // not show whether the server still runs.
        if folder.majorVersion != nil {
            throw EmbeddedClusterError.folder(
                folder.path, reason: "an isolated server requires a new cluster, but the folder already contains one")
        }
        try await initialise(programs)
        try writeSettings(programs)
        let log = open(folder.log, O_WRONLY | O_APPEND | O_CLOEXEC)
        defer { if log >= 0 { close(log) } }
        let state = (folder.path as NSString).deletingLastPathComponent
        return try IsolatedServer(
            account.command(programs.path("postgres"), ["-D", folder.data]), in: folder,
            hiding: (state as NSString).deletingLastPathComponent, log: log >= 0 ? log : nil)
    }

    private func choosePrograms() async throws -> ServerPrograms {
        let installed = await ServerPrograms.installed(in: options.programFolders)
        guard let newest = installed.first else { throw EmbeddedClusterError.noServer }
        guard let made = folder.majorVersion else { return newest }
        guard let matching = installed.first(where: { $0.majorVersion == made }) else {
            throw EmbeddedClusterError.otherVersion(
                folder: folder.path, made: made, installed: installed.map(\.majorVersion))
        }
        return matching
    }

    private func initialise(_ programs: ServerPrograms) async throws {
        logger.info("creating the embedded PostgreSQL cluster", [LogField("folder", folder.path)])
        try await folder.removeServersFolder(folder.unfinished)
        try "\(programs.folder)\n".write(toFile: folder.marker, atomically: true, encoding: .utf8)
        try makeFolder(folder.unfinished)
        let arguments = [
            "-D", folder.unfinished, "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--data-checksums",
            "--auth=trust", "--no-instructions",
        ]
        let outcome = try await account.command(programs.path("initdb"), arguments).run(limit: .seconds(120))
        guard outcome.succeeded else { throw EmbeddedClusterError.program("initdb", output: outcome.errorOutput) }
        let include = "\ninclude = \(quoteSetting(folder.settings))\n"
        // The file is written with the rights of the account, because the account may have put a link in the place of
        // the file.
        let append = account.command(
            "sh", ["-c", #"printf %s "$2" >> "$1""#, "sh", "\(folder.unfinished)/postgresql.conf", include])
        let written = try await append.run(limit: .seconds(10))
        guard written.succeeded else { throw EmbeddedClusterError.program("sh", output: written.errorOutput) }
        try FileManager.default.moveItem(atPath: folder.unfinished, toPath: folder.data)
    }

    private func writeSettings(_ programs: ServerPrograms) throws {
        try makeFolder(folder.socket)
        if !FileManager.default.fileExists(atPath: folder.log) {
            _ = FileManager.default.createFile(
                atPath: folder.log, contents: nil, attributes: [.posixPermissions: 0o600])
            try account.own(folder.log)
        }
        try "\(programs.folder)\n".write(toFile: folder.marker, atomically: true, encoding: .utf8)
        var settings = [
            "listen_addresses": "", "unix_socket_directories": folder.socket, "unix_socket_permissions": "0700",
            "port": "5432", "wal_level": "logical", "timezone": "UTC", "log_timezone": "UTC",
            "log_line_prefix": "%m [%p] %q%u@%d ",
        ]
        // The module counts statements for the performance views. It is part of the server packages of the
        // distributions.
        if programs.hasModule("pg_stat_statements") { settings["shared_preload_libraries"] = "pg_stat_statements" }
        settings.merge(options.settings) { _, given in given }
        let lines = settings.sorted { $0.key < $1.key }.map { "\($0) = \(quoteSetting($1))" }
        let text = "# Written by reeve at each start.\n" + lines.joined(separator: "\n") + "\n"
        try text.write(toFile: folder.settings, atomically: true, encoding: .utf8)
        chmod(folder.settings, 0o644)
    }

    private func makeFolder(_ path: String) throws {
        try StateFolder.make(path, isPrivate: true)
        // In /tmp, another user may have created the folder first, or a link to another folder. `own` then throws an
        // error.
        try account.own(folder: path)
    }

    func logTail() -> String {
        guard let text = try? String(contentsOfFile: folder.log, encoding: .utf8) else { return "" }
        return "\n" + text.split(separator: "\n").suffix(10).joined(separator: "\n")
    }
}
