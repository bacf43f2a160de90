import Foundation
import Kernel
import Postgres
import Processes
import Reporting
import SQL
import Telemetry

/// The tasks that the configuration defines, below `tasks.custom.NAME`: SQL or a shell command, and a schedule. They
/// run like the other tasks.
enum CustomTask {
    private static let sql = Setting<String?>(
        "tasks.custom.*.sql", .text,
        "SQL that the task runs, as the role that connects, in one transaction. The search_path is pg_catalog: write "
            + "names with their schemas, or begin with SET LOCAL search_path.")
    private static let command = Setting<String?>(
        "tasks.custom.*.command", .text,
        "A shell command that the task runs, instead of SQL. If its exit status is not 0, the run fails. It starts in "
            + "the folder / and receives PATH, HOME, LANG, LC_ALL, TMPDIR, TZ, REEVE_TASK, REEVE_DATABASE, and "
            + "REEVE_DATABASE_URL, which has no password.")
    private static let environment = Setting<[String]>(
        list: "tasks.custom.*.environment", .text,
        "Further environment variables that the command receives.")
    static let role = Setting<String?>(
        "tasks.custom.*.role", .text,
        "The role that runs the SQL. The role that connects must be a member of it.")
    private static let transaction = Setting(
        "tasks.custom.*.transaction", .boolean, default: "yes",
        "With `no`, each statement runs and commits alone, for VACUUM and the like.")
    static let databases = Setting<[String]>(
        list: "tasks.custom.*.databases", .text, "The databases that the task runs for; by default, all of them.")

    static let keys = [sql.key, command.key, environment.key, role.key, transaction.key, databases.key]

    static let section = "tasks.custom"

    /// Returns the configured tasks.
    ///
    /// - Throws: `ConfigurationError` with all mistakes.
    @Sendable
    static func specs(_ configuration: Configuration) throws -> [TaskSpec] {
        var (specs, mistakes): ([TaskSpec], [ConfigurationError]) = ([], [])
        for name in configuration.store.names(below: section) {
            let found = review(name, configuration)
            mistakes += found
            if found.isEmpty { specs.append(spec(name, configuration)) }
        }
        try ConfigurationError.check(mistakes)
        return specs
    }

    private static func review(_ name: String, _ configuration: Configuration) -> [ConfigurationError] {
        let (store, path) = (configuration.store, "\(section).\(name)")
        func mistake(_ place: String, _ message: String, hint: String? = nil) -> ConfigurationError {
            ConfigurationError("\(store.place(place))", nil, message, hint: hint)
        }
        func isWritten(_ key: String) -> Bool { store.isWritten("\(path).\(key)") }
        var mistakes: [ConfigurationError] = []
        if isWritten("sql") == isWritten("command") {
            mistakes.append(
                mistake(
                    path,
                    "'\(path)' has \(isWritten("sql") ? "both 'sql' and 'command'" : "neither 'sql' nor 'command'")"))
        }
        if !isWritten("cron"), !isWritten("every") {
            mistakes.append(
                mistake(path, "'\(path)' has neither 'cron' nor 'every'", hint: "set for example cron: '30 3 * * *'"))
        }
        for (other, keys) in [("command", ["role", "transaction"]), ("sql", ["environment"])] where isWritten(other) {
            for key in keys where isWritten(key) {
                mistakes.append(mistake("\(path).\(key)", "'\(path).\(key)' has no effect with '\(other)'"))
            }
        }
        let known = configuration.databases.map(\.name)
        for database in configuration[databases, name] where !known.contains(database) {
            mistakes.append(
                mistake(
                    "\(path).databases", "the database '\(database)' is not configured",
                    hint: didYouMean(database, among: known)))
        }
        if let text = configuration[sql, name] {
            do {
                if try SQLLexer.split(Array(text.utf8), file: "\(path).sql").isEmpty {
                    mistakes.append(mistake("\(path).sql", "'\(path).sql' has no statement"))
                }
            } catch {
                mistakes.append(mistake("\(path).sql", "'\(path).sql': \(error)"))
            }
        }
        return mistakes
    }

    /// Finds commands in a file that others can write.
    @Sendable
    static func untrusted(_ configuration: Configuration) -> [ConfigurationError] {
        configuration.store.names(below: section).compactMap { name -> ConfigurationError? in
            do throws(ConfigurationError) {
                try configuration.checkCommand(command, name)
                return nil
            } catch {
                return error
            }
        }
    }

    private static func spec(_ name: String, _ configuration: Configuration) -> TaskSpec {
        let line = configuration[command, name]
        let what = (line ?? configuration[sql, name] ?? "").split(whereSeparator: \.isNewline).first.map(String.init)
        let shown = (what ?? "").trimmingCharacters(in: .whitespaces)
        return TaskSpec(
            name, "\(line == nil ? "SQL" : "command"): \(shown.count > 60 ? "\(shown.prefix(59))…" : shown)",
            schedule: "@yearly", timeout: .seconds(3600), retries: 0, settings: .custom,
            databases: configuration[databases, name]
        ) { call in
            if let line { return try await run(line, name, call) }
            return try await runSQL(name, call)
        }
    }

    // MARK: SQL

    private static func runSQL(_ name: String, _ call: TaskCall) async throws -> String {
        let configuration = call.configuration
        let source = Array((configuration[sql, name] ?? "").utf8)
        let statements = try SQLLexer.split(source, file: "\(section).\(name).sql").map {
            String(decoding: source[$0.range], as: UTF8.self)
        }
        let (isOne, role) = (configuration[transaction, name], configuration[role, name])
        // On a connection of its own, so that no SET of the statements reaches other work.
        let tags = try await call.open.database.withDirectConnection(named: "reeve task \(name)") { connection in
            try await connection.with { connection in
                if isOne {
                    return try connection.transaction {
                        if let role { try connection.execute("SET ROLE \(quoteIdentifier(role))") }
                        return try statements.map { try connection.execute($0).text }
                    }
                }
                if let role { try connection.execute("SET ROLE \(quoteIdentifier(role))") }
                return try statements.map { statement in
                    try Task.checkCancellation()
                    return try connection.execute(statement).text
                }
            }
        }
        return tags.count <= 5
            ? tags.joined(separator: ", ") : "\(counted(tags.count, "statement")), the last one \(tags.last ?? "")"
    }

    // MARK: Commands

    /// Runs a command line in a shell. If this process is killed, the kernel sends SIGTERM to the shell, which passes
    /// it on to the group of the command, and kills the group after five seconds.
    private static let wrapper = #"""
        pid=
        trap 'trap "" TERM; kill -TERM 0; (sleep 5; kill -KILL 0) & wait $pid; exit 143' TERM
        /bin/sh -c "$1" & pid=$!
        wait $pid
        """#

    /// The number of bytes of each of standard output and standard error that are kept.
    private static let outputLimit = 256 << 10
    /// The number of characters of the output in the log.
    private static let logLimit = 8000

    private static func run(_ line: String, _ name: String, _ call: TaskCall) async throws -> String {
        let configuration = call.configuration
        try configuration.checkCommand(command, name)
        let names = configuration[environment, name]
        let environment = ChildEnvironment.fixed(of: configuration.environment, with: names).merging([
            "REEVE_TASK": name, "REEVE_DATABASE": call.open.name,
            "REEVE_DATABASE_URL": call.open.database.direct.withoutPassword.uri,
        ]) { $1 }
        let shell = Command(
            "setpriv", ["--pdeathsig", "TERM", "--", "/bin/sh", "-c", wrapper, "sh", line], environment: environment)
        // The task's timeout cancels this call. The command's own limit must not end it before.
        let outcome = try await shell.run(limit: .seconds(3650 * 86400), outputLimit: outputLimit)
        let (output, errors) = (outcome.output.trimmed, outcome.errorOutput.trimmed)
        for (stream, text) in [("standard output", output), ("standard error", errors)] where !text.isEmpty {
            call.logger.info(
                "the command wrote to \(stream)", [LogField("output", String(text.suffix(logLimit)))])
        }
        guard outcome.succeeded else {
            let said = errors.isEmpty ? output : errors
            throw TaskFinding("the command \(outcome.ending.words)" + (said.isEmpty ? "" : ": \(said.suffix(2000))"))
        }
        let last = output.split(whereSeparator: \.isNewline).last.map(String.init)
        return last.map { String($0.prefix(500)) } ?? "the command succeeded"
    }
}

extension CommandOutcome.Ending {
    fileprivate var words: String {
        switch self {
        case .exited(let status): "exited with \(status)"
        case .killed(let signal): "was killed by signal \(signal)"
        }
    }
}

extension String {
    fileprivate var trimmed: String { trimmingCharacters(in: .whitespacesAndNewlines) }
}
