import Foundation
import Postgres
import Processes

/// The programs that a backup flows through.
struct BackupTools: Sendable {
    let programs: ServerPrograms

    /// The oldest installed programs that can dump a server: pg_dump refuses one that is newer than itself.
    ///
    /// - Throws: `BackupError.noPgDump`.
    static func dumping(server: Int) async throws -> BackupTools {
        let able = await ServerPrograms.installed().filter {
            $0.majorVersion >= server / 10000 && FileManager.default.isExecutableFile(atPath: $0.path("pg_dump"))
        }
        guard let best = able.last else { throw BackupError.noPgDump(server: server / 10000) }
        return BackupTools(programs: best)
    }

    /// A program of PostgreSQL's on a database; the password goes by the environment.
    func command(_ program: String, _ arguments: [String], on settings: ConnectionSettings) -> Command {
        var environment = ProcessInfo.processInfo.environment
        if let password = settings.parameters["password"] { environment["PGPASSWORD"] = password }
        environment["PGAPPNAME"] = "reeve backup"
        // A dump is long, and waits for nobody's locks: its tables are locked already.
        environment["PGOPTIONS"] = "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0"
        return Command(
            programs.path(program), arguments + ["--dbname", settings.withoutPassword.uri], environment: environment,
            directory: "/")
    }

    /// Compressed, and encrypted where there are recipients. One thread: PostgreSQL is to have the others.
    static func packing(_ recipients: [String]) -> [Command] {
        let pack = Command("zstd", ["-q", "-2", "-T1", "-c"], directory: "/")
        if recipients.isEmpty { return [pack] }
        return [pack, Command("age", recipients.flatMap { ["-r", $0] }, directory: "/")]
    }

    static func unpacking(_ identity: String?, isEncrypted: Bool) -> [Command] {
        let unpack = Command("zstd", ["-q", "-d", "-c"], directory: "/")
        guard isEncrypted, let identity else { return [unpack] }
        return [Command("age", ["-d", "-i", identity], directory: "/"), unpack]
    }

    /// - Throws: `BackupError.noProgram`.
    static func check(encrypts: Bool) async throws {
        for program in encrypts ? ["zstd", "age"] : ["zstd"] {
            let outcome = try? await Command(program, ["--version"], directory: "/").run(limit: .seconds(10))
            guard outcome?.succeeded == true else { throw BackupError.noProgram(program) }
        }
    }
}
