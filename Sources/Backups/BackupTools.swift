import Foundation
import Postgres
import Processes

/// The programs that make and restore backups: PostgreSQL's programs, zstd and age.
struct BackupTools: Sendable {
    let programs: ServerPrograms
    /// Whether the sessions of the programs begin with `role=none`. This is so if the setting `role` was `none` in the
    /// connection that was passed to `dumping`. Without `role=none`, the sessions would begin with a role that the
    /// owner of the database has set for all sessions (`ALTER DATABASE … SET role`).
    private var leavesRole = false
    /// The encoding of the database. Dumps of the database are written in this encoding, whatever `client_encoding` is
    /// set for the database or the role.
    private(set) var encoding: String?
    /// The application name of the programs' sessions; at most 63 bytes.
    var application = "reeve backup"

    private init(programs: ServerPrograms) { self.programs = programs }

    /// Returns the oldest installed programs that can dump a server. pg_dump refuses a server that is newer than
    /// itself.
    ///
    /// - Throws: `BackupError.noPgDump`.
    static func dumping(server: Int) async throws -> BackupTools {
        let able = await ServerPrograms.installed().filter {
            $0.majorVersion >= server / 10000 && FileManager.default.isExecutableFile(atPath: $0.path("pg_dump"))
        }
        guard let best = able.last else { throw BackupError.noPgDump(server: server / 10000) }
        return BackupTools(programs: best)
    }

    /// Returns the oldest installed programs that can dump a server, set up for the database and the role of a
    /// connection.
    static func dumping(server: Int, beside connection: Connection) async throws -> BackupTools {
        var tools = try await dumping(server: server)
        (tools.leavesRole, tools.encoding) = try await connection.with { connection in
            (
                try connection.query("SELECT current_setting('role') = 'none'").first?.get(0) ?? false,
                try connection.query("SHOW server_encoding").first?.get(0)
            )
        }
        return tools
    }

    /// Returns the command that runs one of PostgreSQL's programs on a database. Secrets are passed in the environment,
    /// because all users of the machine can see the arguments.
    ///
    /// - Throws: `BackupError.secretKeyword` for a secret that libpq accepts only in the connection string.
    func command(_ program: String, _ arguments: [String], on settings: ConnectionSettings) throws -> Command {
        let parameters = settings.parameters
        for keyword in ["sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"]
        where parameters[keyword] != nil {
            throw BackupError.secretKeyword(keyword)
        }
        var environment = ChildEnvironment.fixed(with: LibpqVariables.names)
        if let password = parameters["password"] { environment["PGPASSWORD"] = password }
        if let file = parameters["passfile"] { environment["PGPASSFILE"] = file }
        environment["PGAPPNAME"] = application
        // Scripts for psql set their own encoding. pg_dumpall reads the names of roles in the database `postgres`, and
        // this database's encoding may lack characters of them.
        environment["PGCLIENTENCODING"] = ["pg_dump": encoding, "pg_dumpall": "UTF8"][program] ?? nil
        // Messages are requested in English. Labels in them, such as DETAIL, show which parts of a message quote rows.
        environment["LANG"] = environment["LC_ALL"] ?? environment["LANG"]
        environment["LC_ALL"] = nil
        environment["LC_MESSAGES"] = "C"
        // Turn off time limits, because a dump takes long. The dumped tables are locked already, and `LockWatch` ends a
        // dump that waits too long for another lock.
        let unlimited = "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0"
        // The owner of the database must not decide by ALTER DATABASE … SET which rights the programs have, or whose
        // code they run.
        let pins = " -c constraint_exclusion=partition" + (leavesRole ? " -c role=none" : "")
        let options = parameters["options"] ?? environment["PGOPTIONS"]
        environment["PGOPTIONS"] = (options.map { "\($0) " } ?? "") + unlimited + pins
        var shown = settings.withoutPassword
        // Remove `options` from the connection string, because it would replace PGOPTIONS.
        shown.parameters["options"] = nil
        // psql prints messages without details, because details quote rows.
        let quiet = program == "psql" ? ["-v", "VERBOSITY=terse", "-v", "SHOW_CONTEXT=never"] : []
        return Command(programs.path(program), quiet + arguments + ["--dbname", shown.uri], environment: environment)
    }

    /// Returns the arguments with which psql reads a script from its standard input, and refuses meta-commands in the
    /// script, such as `\!`. So somebody who can write to a repository cannot run commands on this machine. `\restrict`
    /// exists since the minor versions of August 2025 (CVE-2025-8714); older versions of psql read the script without
    /// `\restrict`.
    func restrictedScript() async -> [String] {
        let outcome = try? await Command(programs.path("psql"), ["--version"]).run(limit: .seconds(10))
        guard Self.canRestrict(psql: outcome?.output ?? "") else { return ["-f", "-"] }
        let key = String((0..<32).compactMap { _ in "abcdefghijklmnopqrstuvwxyz0123456789".randomElement() })
        return ["-c", "\\restrict \(key)", "-f", "-", "-c", "\\unrestrict \(key)"]
    }

    /// Returns whether a version of psql has the meta-command `\restrict`.
    ///
    /// - Parameter version: the output of `psql --version`.
    static func canRestrict(psql version: String) -> Bool {
        guard let word = version.split(separator: " ").first(where: { $0.first?.isNumber == true }) else {
            return false
        }
        let numbers = word.split(separator: ".").map { Int($0.prefix { $0.isNumber }) ?? 0 }
        guard let major = numbers.first else { return false }
        let first = [13: 22, 14: 19, 15: 14, 16: 10, 17: 6]
        return major > 17 || first[major].map { numbers.count > 1 && numbers[1] >= $0 } ?? false
    }

    /// Returns the stages that compress a part, and encrypt it if there are recipients. zstd uses one thread, to leave
    /// the other CPUs to PostgreSQL.
    static func packing(_ recipients: [String]) -> [CheckedChain.Stage] {
        let pack = CheckedChain.Stage(command: Command("zstd", ["-q", "-2", "-T1", "-c"]), format: .zstd)
        if recipients.isEmpty { return [pack] }
        return [pack, CheckedChain.Stage(command: Command("age", recipients.flatMap { ["-r", $0] }), format: .age)]
    }

    static func unpacking(_ identity: String?, isEncrypted: Bool) -> [Command] {
        let unpack = Command("zstd", ["-q", "-d", "-c"])
        guard isEncrypted, let identity else { return [unpack] }
        return [Command("age", ["-d", "-i", identity]), unpack]
    }

    /// Checks that zstd is installed and, if `encrypts` is true, age.
    ///
    /// - Throws: `BackupError.noProgram`.
    static func check(encrypts: Bool) async throws {
        for program in encrypts ? ["zstd", "age"] : ["zstd"] {
            let outcome = try? await Command(program, ["--version"]).run(limit: .seconds(10))
            guard outcome?.succeeded == true else { throw BackupError.noProgram(program) }
        }
    }
}
