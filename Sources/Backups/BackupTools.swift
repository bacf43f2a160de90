import Foundation
import Postgres
import Processes

/// The programs that a backup flows through.
struct BackupTools: Sendable {
    let programs: ServerPrograms
    /// Whether the programs leave the role that the owner of a database sets for all who come, as our own sessions do.
    private var leavesRole = false
    /// The encoding of the database, in which its dumps are written whatever is set for it.
    private var encoding: String?
    /// What the server shows as the programs' application name; at most 63 bytes.
    var application = "reeve backup"

    private init(programs: ServerPrograms) { self.programs = programs }

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

    /// The same, for programs that work where a connection does, in the role that it has.
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

    /// A program of PostgreSQL's on a database. What is secret goes by the environment, for arguments are for all to see.
    ///
    /// - Throws: `BackupError.secretKeyword` for what libpq takes from the connection string alone.
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
        // Scripts for psql name their encoding themselves.
        environment["PGCLIENTENCODING"] = program.hasPrefix("pg_dump") ? encoding : nil
        // English labels, such as DETAIL, show which parts of a message quote rows.
        environment["LANG"] = environment["LC_ALL"] ?? environment["LANG"]
        environment["LC_ALL"] = nil
        environment["LC_MESSAGES"] = "C"
        // A dump is long, and waits for nobody's locks: its tables are locked already.
        let unlimited = "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0"
        // Settings of the database's owner must not decide with whose rights, and on whose code, the programs work.
        let pins = " -c constraint_exclusion=partition" + (leavesRole ? " -c role=none" : "")
        let options = parameters["options"] ?? environment["PGOPTIONS"]
        environment["PGOPTIONS"] = (options.map { "\($0) " } ?? "") + unlimited + pins
        var shown = settings.withoutPassword
        // Options in the connection string would replace all of these.
        shown.parameters["options"] = nil
        // Messages without details, which quote rows.
        let quiet = program == "psql" ? ["-v", "VERBOSITY=terse", "-v", "SHOW_CONTEXT=never"] : []
        return Command(programs.path(program), quiet + arguments + ["--dbname", shown.uri], environment: environment)
    }

    /// Arguments with which psql reads a script from its input and runs no commands of its own for it, such as `\!`: who
    /// writes to a repository does not write to this machine. `\restrict` came with the minor versions of August 2025
    /// (CVE-2025-8714); older ones read without it.
    func restrictedScript() async -> [String] {
        let outcome = try? await Command(programs.path("psql"), ["--version"]).run(limit: .seconds(10))
        guard Self.canRestrict(psql: outcome?.output ?? "") else { return ["-f", "-"] }
        let key = String((0..<32).compactMap { _ in "abcdefghijklmnopqrstuvwxyz0123456789".randomElement() })
        return ["-c", "\\restrict \(key)", "-f", "-", "-c", "\\unrestrict \(key)"]
    }

    /// - Parameter version: what `psql --version` says.
    static func canRestrict(psql version: String) -> Bool {
        guard let word = version.split(separator: " ").first(where: { $0.first?.isNumber == true }) else {
            return false
        }
        let numbers = word.split(separator: ".").map { Int($0.prefix { $0.isNumber }) ?? 0 }
        guard let major = numbers.first else { return false }
        let first = [13: 22, 14: 19, 15: 14, 16: 10, 17: 6]
        return major > 17 || first[major].map { numbers.count > 1 && numbers[1] >= $0 } ?? false
    }

    /// Compressed, and encrypted where there are recipients. One thread: PostgreSQL is to have the others.
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

    /// - Throws: `BackupError.noProgram`.
    static func check(encrypts: Bool) async throws {
        for program in encrypts ? ["zstd", "age"] : ["zstd"] {
            let outcome = try? await Command(program, ["--version"]).run(limit: .seconds(10))
            guard outcome?.succeeded == true else { throw BackupError.noProgram(program) }
        }
    }
}
