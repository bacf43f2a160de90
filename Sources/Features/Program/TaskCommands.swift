import Foundation
import Kernel
import Ledger
import Postgres
import Reporting
import Scheduling

/// The commands `reeve task …`.
enum TaskCommands {
    static let all = [list, run, history, next]

    static let list = CommandSpec(
        noun: "task", verb: "list", summary: "list the tasks, their schedules and when they are next due",
        discussion: "With several databases, the times of schedules with 'H' are those of the first database."
    ) { invocation in
        let configuration = try invocation.configuration()
        let now = Timestamp.now.seconds
        let first = configuration.databases.first
        let isEmbedded = first?.isEmbedded ?? false
        let plans = try invocation.features.plans(configuration, isEmbedded: isEmbedded)
        var table = TextTable("TASK", "SCHEDULE", "NEXT", "WHAT IT DOES")
        var values: [JSONValue] = []
        for task in plans {
            let next = task.isEnabled ? task.schedule(in: first?.name ?? "").next(after: now).map(rfc3339) : nil
            table.add(task.spec.name, describe(task.schedule), next ?? "off", task.spec.summary)
            values.append([
                "task": .string(task.spec.name), "schedule": .string(describe(task.schedule)),
                "enabled": .bool(task.isEnabled),
                "next": .string(next), "summary": .string(task.spec.summary),
            ])
        }
        invocation.console.result(["tasks": .array(values)], text: table.text)
        return .done
    }

    static let run = CommandSpec(
        noun: "task", verb: "run", summary: "run a task now, and wait until it ends",
        discussion:
            "The run is recorded like a scheduled run. It does not start while another run of the task is in progress "
            + "(exit 5).",
        arguments: [ArgumentSpec(name: "NAME", help: "a task that 'reeve task list' shows", completion: .tasks)],
        whenInterrupted: "the task was not run"
    ) { invocation in
        let name = invocation.arguments.positional[0]
        return try await DatabaseScope.forEach(invocation) { one, estate in
            let open = try await estate.open(one)
            try await open.database.pool.with { try LedgerSchema.install(on: $0) }
            let tasks = try invocation.features.plans(
                estate.configuration, database: one.name, isEmbedded: open.isEmbedded
            ).map {
                $0.definition(for: open, estate.configuration)
            }
            var settings = Scheduler.Settings(instance: ServiceInstance.name)
            settings.instance += " by hand"
            settings.endsWithCaller = true
            let scheduler = Scheduler(
                tasks: tasks.map(withoutRetries), database: open.database, settings: settings, logger: estate.logger)
            let outcome = try await scheduler.runNow(name)
            invocation.interruption.did(
                "run \(outcome.run) of '\(name)' in '\(one.name)' is recorded as \(outcome.state.rawValue)")
            invocation.interruption.stands("the work that the run had finished is not undone")
            let runs = try await open.database.pool.with { try RunLedger.history(run: outcome.run, on: $0) }
            return report(runs, runs.allSatisfy { $0.state == .succeeded } ? .done : .failed)
        }
    }

    /// Disables retries, so that the user sees a failure immediately.
    private static func withoutRetries(_ task: TaskDefinition) -> TaskDefinition {
        var task = task
        task.retries = 0
        return task
    }

    static let history = CommandSpec(
        noun: "task", verb: "history", summary: "list the newest runs",
        options: [
            .option("task", "NAME", "only runs of this task", completion: .tasks),
            .option("limit", "N", "how many runs to list; 50 by default"),
        ]
    ) { invocation in
        let limit = try invocation.integer("limit", in: 1...10_000) ?? 50
        let task = invocation.option("task")
        return try await DatabaseScope.forEach(invocation) { one, estate in
            let open = try await estate.open(one)
            let runs = try await open.database.pool.with { connection in
                try LedgerSchema.isInstalled(on: connection)
                    ? try RunLedger.history(task: task, limit: limit, on: connection) : []
            }
            let known = try invocation.features.plans(
                estate.configuration, database: one.name, isEmbedded: open.isEmbedded
            ).map(
                \.spec.name)
            if let task, runs.isEmpty, !known.contains(task) { throw SchedulingError.unknownTask(task, known: known) }
            return report(runs)
        }
    }

    static let next = CommandSpec(
        noun: "task", verb: "next", summary: "show the next times of a cron expression",
        discussion:
            "Clock changes are handled as in Debian's cron. An expression with a fixed time runs exactly once, even if "
            + "the clock is set back, or is set forward past that time (it then runs at the change). An expression "
            + "whose minute or hour begins with *, or is H with a step, follows the clock.\n\nThe day of the month may be L or $ "
            + "(the last day), L-3 (three days before the last), 15W (the weekday nearest to the 15th) or LW (the last "
            + "weekday); the day of the week may be fri#2 (the second Friday of the month) or friL (the last). H is a "
            + "value that differs between tasks and databases, but stays the same for each: H, H(0-29), H/15. Here it "
            + "is that of the task that --task names.",
        arguments: [ArgumentSpec(name: "EXPRESSION", help: "five fields in quotes, or a short form such as @daily")],
        options: [
            .option("zone", "ZONE", "the IANA time zone; UTC by default"),
            .option("task", "NAME", "the task whose values of H are used"),
            .option("database", "NAME", "the database whose values of H are used; 'main' by default"),
            .option("from", "TIME", "the RFC 3339 time to start from; now by default"),
            .option("count", "N", "how many dates and times to show; 5 by default"),
        ]
    ) { invocation in
        let expression: CronExpression
        do throws(CronError) {
            expression = try CronExpression(invocation.arguments.positional[0])
                .spread(over: "\(invocation.option("database") ?? "main") \(invocation.option("task") ?? "")")
        } catch {
            throw UsageError(error.description, hint: error.hint)
        }
        let name = invocation.option("zone") ?? "UTC"
        guard let zone = TimeZone(identifier: name) else {
            throw UsageError(
                "'\(name)' is not an IANA time zone",
                hint: didYouMean(name, among: TimeZone.knownTimeZoneIdentifiers) ?? "write for example Europe/Berlin")
        }
        var from = Timestamp.now.seconds
        if let text = invocation.option("from") {
            guard let time = try? Timestamp.fromPostgres(text) else {
                throw UsageError(
                    "--from: '\(text)' is not an RFC 3339 time", hint: "write for example 2026-03-29T00:00:00Z")
            }
            // The first whole second that is not before the given time.
            from = time.secondsRoundedUp
            guard Schedule.instants.contains(from) else {
                throw UsageError("--from: '\(text)' is not between the years 0001 and 9999")
            }
        }
        let count = try invocation.integer("count", in: 1...10_000) ?? 5
        let times = Schedule.cron(expression, zone).times(from: from, count: count).map(rfc3339)
        invocation.console.result(
            ["times": .array(times.map { .string($0) })], text: times.joined(separator: "\n"))
        return .done
    }

    // MARK: Shared functions

    private static func rfc3339(_ seconds: Int) -> String {
        (Timestamp(seconds: seconds) ?? .infinity).rfc3339
    }

    private static func describe(_ schedule: Schedule) -> String {
        switch schedule {
        case .cron(let expression, let zone): "\(expression) \(zone.identifier == "GMT" ? "UTC" : zone.identifier)"
        case .every(let seconds): "every \(seconds) s"
        }
    }

    private static func report(_ runs: [RunRecord], _ status: ExitCode = .done) -> DatabaseScope.Report {
        var table = TextTable("ID", "TASK", "STATE", "STARTED", "REASON", "MESSAGE")
        for run in runs {
            let message = (run.message ?? "").split(whereSeparator: \.isNewline).first.map(String.init) ?? ""
            table.add(
                String(run.id), run.task, run.state.rawValue, run.startedAt.rfc3339, run.reason.rawValue, message)
        }
        let values = runs.map { run -> JSONValue in
            [
                "id": .int(Int(run.id)), "task": .string(run.task), "occurrence": .time(run.occurrence),
                "attempt": .int(run.attempt), "state": .string(run.state.rawValue),
                "reason": .string(run.reason.rawValue),
                "instance": .string(run.instance), "started_at": .time(run.startedAt),
                "finished_at": .time(run.finishedAt), "message": .string(run.message),
            ]
        }
        return DatabaseScope.Report(["runs": .array(values)], runs.isEmpty ? "no runs" : table.text, status)
    }
}
