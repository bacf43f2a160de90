import Foundation
import Kernel
import Migrations
import Postgres
import Reporting

/// The commands `reeve migrate …`.
enum MigrateCommands {
    static let all = [plan, up, down, status, verify, new]

    private static let with = OptionSpec.option(
        "with", "SYSTEM/OPTION", "apply this opt-in migration too", repeated: true)
    private static let late = OptionSpec.flag(
        "out-of-order", "also apply migrations whose version is lower than that of an applied migration")

    static let plan = CommandSpec(
        noun: "migrate", verb: "plan", summary: "show what 'up' would do, statement by statement",
        options: [.system, .option("to", "VERSION", "only up to this version"), with, late]
    ) { invocation in
        try await forEach(invocation) { migrator, open in
            try requireSingle(open, invocation)
            let plan = try await migrator.plan(.up(to: try target(invocation)))
            return MigrationReport(plan: plan, console: invocation.console)
        }
    }

    static let up = CommandSpec(
        noun: "migrate", verb: "up", summary: "apply pending migrations",
        discussion:
            "Each migration runs in its own transaction, which also updates the ledger. Statements that cannot run in "
            + "a transaction, such as CREATE INDEX CONCURRENTLY, run alone, and the ledger records each step. If a run "
            + "is interrupted at any point, the next run continues it. With --dry-run, exits with 3 if a migration is "
            + "pending.",
        options: [
            .system, .option("to", "VERSION", "only up to this version; requires a single system"), with, late,
            .flag("allow-empty", "also apply migrations that contain no statement"), .dryRun, .lockWait,
        ], whenInterrupted: "no migration was applied"
    ) { invocation in
        let target = try target(invocation)
        if invocation.isDryRun { return try await dryRun(.up(to: target), invocation) }
        return try await forEach(invocation) { migrator, open in
            try requireSingle(open, invocation)
            let migrator = try await permitEmpty(migrator, target, invocation)
            let begun = BegunMigrations(in: open.database)
            let outcome = try await begun.telling(invocation.interruption) {
                try await migrator.up(to: target) { event in
                    begun.take(event)
                    tell(event, invocation.console)
                }
            }
            invocation.interruption.did(outcome, "applied", in: open.name)
            return MigrationReport(outcome: outcome, word: "applied", console: invocation.console)
        }
    }

    static let down = CommandSpec(
        noun: "migrate", verb: "down", summary: "revert migrations, newest first",
        discussion:
            "Reverts all migrations after --to VERSION. With --to none, reverts all migrations, and drops the schema "
            + "if 'up' created it; so does --to 0, unless there is a migration with version 0. Destroys data, so it "
            + "requires --confirm=DATABASE or an answer to the question. DATABASE is the name on the server.",
        options: [
            .system, .option("to", "VERSION", "the version to revert to; 'none' reverts all"), .dryRun, .lockWait,
            .option("confirm", "DATABASE", "the database's name on the server, to skip the question"),
        ], whenInterrupted: "no migration was reverted"
    ) { invocation in
        guard invocation.option("to") != nil else {
            throw UsageError("'reeve migrate down' requires --to VERSION", hint: "--to none reverts all migrations")
        }
        let target = try target(invocation)
        if invocation.isDryRun { return try await dryRun(.down(to: target), invocation) }
        return try await forEach(invocation, goingDown: true) { migrator, open in
            try requireSingle(open, invocation)
            let name = try await open.serverName()
            try invocation.confirm(
                "migrations of the database '\(name)' would be reverted, and their data lost", name: name)
            let begun = BegunMigrations(in: open.database)
            let outcome = try await begun.telling(invocation.interruption) {
                try await migrator.down(to: target) { event in
                    begun.take(event)
                    tell(event, invocation.console)
                }
            }
            invocation.interruption.did(outcome, "reverted", in: open.name)
            return MigrationReport(outcome: outcome, word: "reverted", console: invocation.console)
        }
    }

    static let status = CommandSpec(
        noun: "migrate", verb: "status", summary: "show applied and pending migrations",
        discussion: "Exits with 3 if a migration is pending or partly reverted.", options: [.system, with]
    ) { invocation in
        try await forEach(invocation) { migrator, _ in MigrationReport(status: try await migrator.status()) }
    }

    static let verify = CommandSpec(
        noun: "migrate", verb: "verify", summary: "compare every applied migration with its file",
        discussion:
            "Finds files that were changed, removed or renamed after they were applied. Exits with 3 if there are any.",
        options: [.system]
    ) { invocation in
        try await forEach(invocation) { migrator, _ in MigrationReport(findings: try await migrator.verify()) }
    }

    static let new = CommandSpec(
        noun: "migrate", verb: "new", summary: "create the files of a new migration",
        arguments: [
            ArgumentSpec(name: "SYSTEM", help: "a system's name, or its folder"),
            ArgumentSpec(name: "NAME", help: "what the migration does, in a few words joined by _"),
        ],
        options: [.flag("repeatable", "create an R__ file, which is applied again whenever it changes")],
        whenInterrupted: "some of the files may have been created"
    ) { invocation in
        let estate = try invocation.estate()
        let words = invocation.arguments.positional
        let name = words[1].replacing(" ", with: "_")
        guard name.wholeMatch(of: /[A-Za-z0-9_-]+/) != nil else {
            throw UsageError("'\(words[1])' cannot name a migration", hint: "use letters, digits, _ and -")
        }
        let system = try estate.systems.systems(
            [estate.folder(ofSystem: words[0]) ?? words[0]], origin: .flag("system"), options: [],
            withRequirements: false)[0]
        let paths = try NewMigration(system: system.migrations, name: name, isRepeatable: invocation.has("repeatable"))
            .write()
        invocation.console.result(
            ["files": .array(paths.map { .string($0) })], text: paths.joined(separator: "\n"), isExact: true)
        return .done
    }

    // MARK: Shared functions

    /// Prints an event of a run on standard error.
    private static func tell(_ event: MigrationEvent, _ console: Console) {
        switch event {
        case .begins: console.progress(event.message)
        case .ended: break
        case .notice, .waits, .retries, .repeats, .waitsForRun: console.note(event.message)
        }
    }

    /// Returns the version that `--to` names; nil if it is not given, or for `none`.
    private static func target(_ invocation: Invocation) throws -> Int? {
        if invocation.option("to") == "none" { return nil }
        return try invocation.integer("to", in: 0...999_999_999_999_999_999)
    }

    /// Refuses `--to VERSION` if there are several systems, because their versions are not related.
    private static func requireSingle(_ open: OpenDatabase, _ invocation: Invocation) throws {
        guard let target = try target(invocation), target != 0 else { return }
        if invocation.options("system").count != 1, open.systems.count != 1 {
            throw UsageError("--to VERSION requires a single system", hint: "name the system with --system")
        }
    }

    /// Asks whether migrations without statements are to be applied: probably, their author has not written them yet.
    private static func permitEmpty(
        _ migrator: Migrator, _ target: Int?, _ invocation: Invocation
    ) async throws -> Migrator {
        if invocation.has("allow-empty") || invocation.has("no-input") || isatty(STDIN_FILENO) != 1 { return migrator }
        let empty = try await migrator.plan(.up(to: target)).empty
        if empty.isEmpty { return migrator }
        let answer = try invocation.interruption.asking {
            let names = empty.map(\.title).joined(separator: ", ")
            Console.write("\(names) contains no statement. Apply it as it is? [y/N] ", to: STDERR_FILENO)
            return readLine()
        }
        return ["y", "yes"].contains(answer?.lowercased()) ? migrator.allowingEmpty() : migrator
    }

    /// Prints what would be done. The exit code is `finding` if there is something to do.
    private static func dryRun(_ goal: MigrationGoal, _ invocation: Invocation) async throws -> ExitCode {
        var goingDown = false
        if case .down = goal { goingDown = true }
        return try await forEach(invocation, goingDown: goingDown) { migrator, open in
            try requireSingle(open, invocation)
            let plan = try await migrator.plan(goal)
            var report = MigrationReport(plan: plan, console: invocation.console)
            report.isFinding = !plan.actions.isEmpty
            return report
        }
    }

    /// Runs `body` with a migrator for each selected database, and prints the reports.
    private static func forEach(
        _ invocation: Invocation, goingDown: Bool = false,
        _ body: (Migrator, OpenDatabase) async throws -> MigrationReport
    ) async throws -> ExitCode {
        try await DatabaseScope.forEach(invocation) { one, estate in
            // If the user names systems for `down`, only these systems are reverted. In all other cases, the systems
            // that the chosen systems require are included.
            let open = try await estate.open(
                one, chosen: invocation.options("system"), options: invocation.options("with"),
                withRequirements: !goingDown || invocation.options("system").isEmpty)
            var migrator = try Migrator(
                database: open.database, systems: try open.requireSystems().map(\.migrations),
                settings: try settings(invocation, estate.configuration), logger: estate.logger)
            if goingDown { migrator.knownSystems = try await estate.open(one).systems.map(\.migrations) }
            let report = try await body(migrator, open)
            return DatabaseScope.Report(.object(report.json), report.text, report.isFinding ? .finding : .done)
        }
    }

    private static func settings(_ invocation: Invocation, _ configuration: Configuration) throws -> Migrator.Settings {
        var settings = MigratorSettings.make(configuration)
        if let wait = try invocation.duration("lock-wait") { settings.lockWait = wait }
        settings.allowOutOfOrder = invocation.has("out-of-order")
        settings.allowsEmpty = invocation.has("allow-empty")
        settings.actor = Invocation.person
        return settings
    }
}

extension Interruption {
    /// Records what a run did in one database. If a signal arrives while the command works on another database, the
    /// report contains what was recorded.
    fileprivate func did(_ outcome: Migrator.Outcome, _ word: String, in database: String) {
        for one in outcome.done {
            did("\(word) \(one.system)/\(one.version.map { "\($0) " } ?? "R ")\(one.name) in '\(database)'")
        }
        stands("nothing else was \(word)")
    }
}

/// The output of a migration command for one database.
private struct MigrationReport {
    let json: [String: JSONValue]
    let text: String
    /// Whether the report requires an action, so that the exit code is `finding`.
    var isFinding = false

    init(plan: MigrationPlan, console: Console) {
        for notice in plan.notices { console.note("notice: \(notice)") }
        json = [
            "plan": .array(plan.actions.map(Self.planned)), "pending": .int(plan.actions.count),
            "notices": .array(plan.notices.map { .string($0) }),
        ]
        var lines: [String] = []
        for action in plan.actions {
            let mode = action.runsInOneTransaction ? "one transaction" : counted(action.steps.count, "step")
            lines.append("\(action.direction.rawValue)  \(action.system.name)/\(action.migration.title)  (\(mode))")
            for step in action.steps {
                for statement in step.statements {
                    let words = action.script.text(of: statement).split(whereSeparator: \.isWhitespace)
                    let line = words.joined(separator: " ")
                    let shown = line.count > 66 ? line.prefix(65) + "…" : line[...]
                    lines.append("      \(step.runsAlone ? "alone " : "")\(shown)")
                }
            }
        }
        text = lines.isEmpty ? "nothing to do" : lines.joined(separator: "\n")
    }

    private static func planned(_ action: MigrationAction) -> JSONValue {
        let statements = action.steps.flatMap { step in
            step.statements.map { statement -> JSONValue in
                [
                    "line": .int(statement.line), "alone": .bool(step.runsAlone),
                    "sql": .string(action.script.text(of: statement)),
                ]
            }
        }
        return [
            "system": .string(action.system.name), "version": .int(action.migration.version),
            "name": .string(action.migration.name), "direction": .string(action.direction.rawValue),
            "file": .string(action.script.path), "transaction": .bool(action.runsInOneTransaction),
            "statements": .array(statements),
        ]
    }

    init(outcome: Migrator.Outcome, word: String, console: Console) {
        for notice in outcome.notices { console.note("notice: \(notice)") }
        let done = outcome.done.map { one -> JSONValue in
            [
                "system": .string(one.system), "version": .int(one.version), "name": .string(one.name),
                "milliseconds": .int(one.milliseconds),
            ]
        }
        json = [
            word: .array(done), "pending": .int(outcome.pending),
            "notices": .array(outcome.notices.map { .string($0) }),
        ]
        var table = TextTable("SYSTEM", "VERSION", "NAME", "MS")
        for one in outcome.done {
            table.add(one.system, one.version.map(String.init) ?? "R", one.name, String(one.milliseconds))
        }
        let summary = "\(word) \(outcome.done.count), pending \(outcome.pending)"
        text = outcome.done.isEmpty ? "nothing to do, pending \(outcome.pending)" : table.text + "\n" + summary
    }

    init(status: [MigrationStatus]) {
        json = ["systems": .array(status.map(Self.status))]
        isFinding = status.contains { !$0.pending.isEmpty || !$0.reverting.isEmpty || !$0.contradictions.isEmpty }
        var lines: [String] = []
        for one in status {
            lines.append(
                "\(one.system.name) in schema \(one.system.schema): \(one.applied.count) applied, \(one.pending.count) "
                    + "pending"
            )
            for migration in one.pending {
                let title = migration.version.map(String.init) ?? "R"
                let note = migration.wasBegun ? "  (interrupted)" : migration.isChanged ? "  (changed)" : ""
                lines.append("  pending  \(title)  \(migration.name)\(note)")
            }
            for migration in one.reverting {
                let title = migration.version.map(String.init) ?? "R"
                lines.append("  partly reverted  \(title)  \(migration.name)  (run 'reeve migrate down' again)")
            }
            if !one.contradictions.isEmpty {
                let count = counted(one.contradictions.count, "applied migration")
                lines.append("  changed  \(count) without the file as it was applied; see 'reeve migrate verify'")
            }
            for option in one.optional { lines.append("  opt-in   \(one.system.name)/\(option)") }
        }
        text = lines.joined(separator: "\n")
    }

    private static func status(_ one: MigrationStatus) -> JSONValue {
        [
            "system": .string(one.system.name), "schema": .string(one.system.schema),
            "applied": .array(
                one.applied.map {
                    ["version": .int($0.version), "name": .string($0.name), "applied_at": .time($0.appliedAt)]
                }),
            "pending": .array(
                one.pending.map {
                    ["version": .int($0.version), "name": .string($0.name), "interrupted": .bool($0.wasBegun)]
                }),
            "reverting": .array(
                one.reverting.map { ["version": .int($0.version), "name": .string($0.name)] }),
            "contradictions": .array(one.contradictions.map { .string($0.description) }),
            "options": .array(one.optional.map { .string($0) }),
        ]
    }

    init(findings: [Finding]) {
        isFinding = !findings.isEmpty
        json = [
            "findings": .array(
                findings.map {
                    ["system": .string($0.subject), "message": .string($0.evidence), "hint": .string($0.mend)]
                })
        ]
        text =
            findings.isEmpty
            ? "every applied migration equals its file"
            : findings.map { $0.evidence + ($0.mend.map { "\nhint: \($0)" } ?? "") }.joined(separator: "\n")
    }
}
