import Foundation
import Processes
import Telemetry

/// Makes and starts the server of one cluster folder. Its caller holds the start lock.
struct ClusterServer {
    let folder: ClusterFolder
    let account: ServerAccount
    let options: EmbeddedCluster.Options
    let logger: Logger

    /// - Parameter watch: is called before there is a process that could be left behind.
    /// - Returns: whether the cluster was made anew.
    func start(watch: () throws -> Void) async throws -> Bool {
        let programs = try await choosePrograms()
        let isNew = folder.majorVersion == nil
        if isNew { try await initialise(programs) }
        try writeSettings(programs)
        folder.removeStalePidFile()
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
        logger.info("making the embedded PostgreSQL cluster", [LogField("folder", folder.path)])
        let manager = FileManager.default
        try? manager.removeItem(atPath: folder.unfinished)
        try "\(programs.folder)\n".write(toFile: folder.marker, atomically: true, encoding: .utf8)
        try makeFolder(folder.unfinished)
        let arguments = [
            "-D", folder.unfinished, "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--data-checksums",
            "--auth=trust", "--no-instructions",
        ]
        let outcome = try await account.command(programs.path("initdb"), arguments).run(limit: .seconds(120))
        guard outcome.succeeded else { throw EmbeddedClusterError.program("initdb", output: outcome.errorOutput) }
        let include = "\ninclude = \(quoteSetting(folder.settings))\n"
        let file = try FileHandle(forWritingTo: URL(fileURLWithPath: "\(folder.unfinished)/postgresql.conf"))
        try file.seekToEnd()
        try file.write(contentsOf: Data(include.utf8))
        try file.close()
        try manager.moveItem(atPath: folder.unfinished, toPath: folder.data)
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
        // Counts statements for the performance views; part of the distributions' server packages.
        if programs.hasModule("pg_stat_statements") { settings["shared_preload_libraries"] = "pg_stat_statements" }
        settings.merge(options.settings) { _, given in given }
        let lines = settings.sorted { $0.key < $1.key }.map { "\($0) = \(quoteSetting($1))" }
        let text = "# Written by reeve at each start.\n" + lines.joined(separator: "\n") + "\n"
        try text.write(toFile: folder.settings, atomically: true, encoding: .utf8)
        chmod(folder.settings, 0o644)
    }

    private func makeFolder(_ path: String) throws {
        try FileManager.default.createDirectory(
            atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        // In /tmp anybody may have been there first, with a link to where we would change the owner.
        guard account.holds(path) else {
            throw EmbeddedClusterError.folder(path, reason: "it belongs to another user, or is not a folder")
        }
        try account.own(path)
    }

    private func logTail() -> String {
        guard let text = try? String(contentsOfFile: folder.log, encoding: .utf8) else { return "" }
        return "\n" + text.split(separator: "\n").suffix(10).joined(separator: "\n")
    }
}

/// The account under which the server's programs run: this process's, or for root, which PostgreSQL refuses, an
/// unprivileged one.
struct ServerAccount: Sendable {
    /// nil: this process's own.
    let user: String?
    private let uid: uid_t
    private let gid: gid_t

    /// The account that owns nothing.
    static let unused = "nobody"

    /// - Parameter isApart: whether other servers' account is the second choice.
    static func current(isApart: Bool = false) -> ServerAccount {
        guard geteuid() == 0 else { return ServerAccount(user: nil, uid: geteuid(), gid: getegid()) }
        for name in isApart ? [unused, "postgres"] : ["postgres", unused] {
            if let entry = getpwnam(name) {
                return ServerAccount(user: name, uid: entry.pointee.pw_uid, gid: entry.pointee.pw_gid)
            }
        }
        return ServerAccount(user: nil, uid: 0, gid: 0)
    }

    /// A command that runs as this account, in a folder that everybody may enter.
    func command(_ program: String, _ arguments: [String]) -> Command {
        guard user != nil else { return Command(program, arguments) }
        let switching = ["--reuid", String(uid), "--regid", String(gid), "--clear-groups", "--", program]
        return Command("setpriv", switching + arguments)
    }

    /// Whether a path is a folder of this account's or of this process's, and no link.
    func holds(_ path: String) -> Bool {
        var status = stat()
        guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else { return false }
        return status.st_uid == uid || status.st_uid == geteuid()
    }

    func own(_ path: String) throws {
        if user != nil, lchown(path, uid, gid) != 0 {
            throw EmbeddedClusterError.folder(path, reason: String(cString: strerror(errno)))
        }
    }

    /// - Throws: `EmbeddedClusterError.notEnterable` when a folder above `path` is closed to this account.
    func checkEntry(to path: String) throws {
        guard let user else { return }
        var folder = path
        while folder != "/" {
            var status = stat()
            guard stat(folder, &status) == 0 else { break }
            let bits: mode_t = status.st_uid == uid ? S_IXUSR : status.st_gid == gid ? S_IXGRP : S_IXOTH
            if status.st_mode & bits == 0 { throw EmbeddedClusterError.notEnterable(folder: folder, user: user) }
            folder = (folder as NSString).deletingLastPathComponent
        }
    }
}
