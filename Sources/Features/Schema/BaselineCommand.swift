import Kernel
import Ledger
import Migrations
import Reporting

/// The command `reeve migrate baseline`. It is part of this feature because it compares schemas.
enum BaselineCommand {
    static let baseline = CommandSpec(
        noun: "migrate", verb: "baseline",
        summary: "record migrations as applied, in a database that has their schema already",
        discussion:
            "For a database whose schema was created without reeve. Runs the migrations up to VERSION in a scratch "
            + "database and compares the result with the database. If they are equal, records the migrations in the "
            + "ledger and runs nothing. Otherwise lists the differences, records nothing, and exits with 3. If no scratch "
            + "database may be created, the committed schema.snapshot is used instead.",
        arguments: [
            ArgumentSpec(name: "VERSION", help: "the last version that the schema contains", isRequired: false)
        ],
        options: [
            .system, .flag("all", "record all migrations, also the repeatable ones"),
            .option("with", "SYSTEM/OPTION", "record this opt-in migration too", repeated: true),
            .flag("accept-differences", "record the migrations although the schema differs from them"), .dryRun,
            .lockWait,
        ], whenInterrupted: "no migration was recorded"
    ) { invocation in
        let version = try version(invocation)
        return try await DatabaseScope.forEach(invocation) { one, estate in
            let open = try await estate.open(
                one, chosen: invocation.options("system"), options: invocation.options("with"))
            let systems = try open.requireSystems().map(\.migrations)
            if version != nil, systems.count != 1 {
                throw UsageError(
                    "a version requires a single system, and these are configured: "
                        + systems.map(\.name).joined(separator: ", "),
                    hint: "name the system with --system, or record all migrations of all systems with --all")
            }
            var settings = Migrator.Settings()
            settings.actor = Invocation.person
            settings.lockWait = estate.configuration[CoreSettings.migrationLockWait]
            if let wait = try invocation.duration("lock-wait") { settings.lockWait = wait }
            let migrator = try Migrator(
                database: open.database, systems: systems, settings: settings, logger: estate.logger)
            let records = try await migrator.unrecorded(to: version)
            var validation = ValidationSettings.make(estate.configuration)
            validation.assumed = records
            let validator = try SchemaValidator(
                database: open.database, systems: systems, settings: validation, logger: estate.logger)
            let report = records.isEmpty ? nil : try await compare(validator, invocation)
            let differs = !(report?.differences.isEmpty ?? true)
            let isRecorded = !invocation.isDryRun && (!differs || invocation.has("accept-differences"))
            var recorded = records
            if isRecorded {
                recorded = try await migrator.record(records) { [console = invocation.console] event in
                    console.note(event.message)
                }
            }
            return BaselineCommand.report(recorded, report, isRecorded: isRecorded, differs: differs, invocation)
        }
    }

    /// Compares the schemas. With `--accept-differences`, migrations that cannot be run are no reason to refuse.
    private static func compare(_ validator: SchemaValidator, _ invocation: Invocation) async throws -> SchemaReport? {
        do {
            return try await validator.validate()
        } catch let error as MigrationError where invocation.has("accept-differences") {
            invocation.console.note("warning: the schemas were not compared: \(error)")
            return nil
        }
    }

    /// Returns the version, or nil for `--all`.
    private static func version(_ invocation: Invocation) throws -> Int? {
        let word = invocation.arguments.positional.first
        if invocation.has("all") {
            if let word { throw UsageError("--all and the version '\(word)' exclude each other") }
            return nil
        }
        guard let word else {
            throw UsageError(
                "'reeve migrate baseline' requires VERSION or --all",
                hint: "VERSION is the last migration whose changes are in the database")
        }
        guard let version = Int(word), version >= 0 else {
            throw UsageError("'\(word)' is not a version", hint: "list the versions with 'reeve migrate status'")
        }
        return version
    }

    private static func report(
        _ records: [MigrationRecord], _ report: SchemaReport?, isRecorded: Bool, differs: Bool,
        _ invocation: Invocation
    ) -> DatabaseScope.Report {
        let text = report.map { DifferenceText($0, lossy: false) }
        var lines: [String] = []
        if differs, let text {
            lines.append(text.lines)
            if !isRecorded {
                invocation.console.note(
                    "no migration was recorded, because the database differs from its migrations\n"
                        + "hint: change the database or the migrations, choose another version, or record them with "
                        + "--accept-differences; 'reeve schema validate --mend' then prints the SQL that removes the "
                        + "differences; what belongs to no migration, such as the table of another tool, can be named "
                        + "in validate.ignore")
            }
        }
        let word = isRecorded ? "recorded" : invocation.isDryRun && !differs ? "would be recorded" : "not recorded"
        if records.isEmpty {
            lines.append("nothing to record")
        } else {
            lines += records.map { "\(word)  \($0.system)  \($0.version.map(String.init) ?? "R")  \($0.name)" }
        }
        let object: JSONValue = [
            "recorded": .bool(isRecorded),
            "migrations": .array(
                records.map {
                    ["system": .string($0.system), "version": .int($0.version), "name": .string($0.name)]
                }),
            "differences": .array(text?.json ?? []),
        ]
        let isDone = isRecorded || records.isEmpty || invocation.isDryRun && !differs
        return DatabaseScope.Report(object, lines.joined(separator: "\n"), isDone ? .done : .finding)
    }
}
