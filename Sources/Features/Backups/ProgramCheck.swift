import Backups
import Foundation
import Kernel
import Postgres
import Processes
import Reporting

/// The check of the programs that backups and restores use. That a program prints its version does not show that it
/// works, so zstd and age are tried.
enum ProgramCheck {
    @Sendable
    static func run(_ call: Check.Call) async -> [Finding] {
        var findings: [Finding] = []
        if let version = call.serverVersion { findings += await serverPrograms(version / 10000) }
        let configuration = call.estate.configuration
        let recipients = BackupSettings.maker(configuration).recipients
        let programs =
            ["zstd"] + (recipients.isEmpty && configuration[BackupSettings.encryption] == .none ? [] : ["age"])
        for program in programs {
            let outcome = try? await Command(program, ["--version"]).run(limit: .seconds(10))
            if outcome?.succeeded != true {
                findings.append(
                    Finding(program, .error, "it is not installed", mend: "install the package \(program)"))
            }
        }
        guard findings.allSatisfy({ !programs.contains($0.subject) }) else { return findings }
        do {
            try await PartTrial.run(recipients: recipients)
        } catch {
            findings.append(
                Finding(
                    "parts of backups", .error, "a part cannot be compressed and encrypted: \(error)",
                    mend: "run zstd and age by hand, and check backup.recipients"))
        }
        return findings
    }

    private static func serverPrograms(_ server: Int) async -> [Finding] {
        let installed = await ServerPrograms.installed()
        func lacking(_ names: [String], where isFit: (ServerPrograms) -> Bool) -> [String]? {
            let fit = installed.filter(isFit)
            let lacks = fit.map { programs in names.filter { !isExecutable(programs.path($0)) } }
            return lacks.contains([]) ? nil : lacks.min { $0.count < $1.count } ?? names
        }
        var findings: [Finding] = []
        if let names = lacking(["pg_dump", "pg_dumpall", "pg_restore", "psql"], where: { $0.majorVersion >= server }) {
            findings.append(
                Finding(
                    "pg_dump", .error,
                    "no installed programs can back up and restore a server of version \(server): "
                        + "\(names.joined(separator: ", ")) \(names.count == 1 ? "is" : "are") missing",
                    mend: "install postgresql-client-\(server)"))
        }
        if let names = lacking(["initdb", "postgres", "pg_ctl"], where: { $0.majorVersion == server }) {
            findings.append(
                Finding(
                    "server programs", .warning,
                    "\(names.joined(separator: ", ")) of version \(server) \(names.count == 1 ? "is" : "are") missing, "
                        + "so restore tests use a scratch database on the source's server",
                    mend: "install postgresql-\(server)"))
        }
        return findings
    }

    private static func isExecutable(_ path: String) -> Bool { FileManager.default.isExecutableFile(atPath: path) }
}
