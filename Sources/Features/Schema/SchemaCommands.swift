import Catalog
import Foundation
import Kernel
import Migrations
import Postgres
import Reporting
import SQL

/// The commands `reeve schema …`.
enum SchemaCommands {
    static let all = [validate, show, diff, snapshot]

    private static let schema = OptionSpec.option("schema", "NAME", "only this PostgreSQL schema", repeated: true)
    private static let mend = OptionSpec.flag(
        "mend", "print SQL that removes the differences, instead of listing them")
    private static let lossy = OptionSpec.flag(
        "lossy", "with --mend or --json: include statements that lose rows or values; otherwise they are comments")
    private static let trust = OptionSpec.option(
        "trust", "ROLE",
        "with --live: run functions and expressions of this role, in addition to those of the setting trusted_roles",
        repeated: true
    )
    private static let sources =
        "A source is a database (postgresql://… or the name of a configured database), migrations (a folder or the "
        + "name of a system), or a snapshot file."

    static let validate = CommandSpec(
        noun: "schema", verb: "validate", summary: "compare the database with its migrations",
        discussion:
            "Replays the applied migrations into a scratch database, and compares the result with the database. The "
            + "result is cached, so the same migrations are replayed only once. If the file of an applied migration was "
            + "changed, the command says so, and replays the text that was applied. If no scratch database may be created, "
            + "the snapshots next to the migrations are used instead. Exits with 3 if there are differences. --mend "
            + "prints statements in an order in which they can be executed. Objects that no migration creates are "
            + "dropped. A statement that loses rows or values, and each statement that requires it, is a comment, unless "
            + "--lossy is given.\n\n"
            + "--live also tests whether each constraint refuses a row that violates it and whether each trigger "
            + "fires, in a transaction that is rolled back. --live is best used on a clone of the database: "
            + "sequences advance, and no table can be altered while a superuser runs the test. What could not be "
            + "tested is listed. A superuser, or a role with other far-reaching rights, tests a table only if the "
            + "owners of the table and of the functions, types and schemas that it uses are superusers, the role "
            + "itself or trusted roles.",
        options: [.system, mend, lossy, .flag("live", "also test constraints and triggers"), trust]
    ) { invocation in
        let trusted = invocation.options("trust")
        guard trusted.isEmpty || invocation.has("live") else {
            throw UsageError("--trust requires --live", hint: "add --live, or leave out --trust")
        }
        let (isMending, isLossy) = (invocation.has("mend"), try isLossy(invocation))
        return try await DatabaseScope.forEach(
            invocation, heading: { isMending ? "-- database \($0)" : "[\($0)]" }, isExact: isMending
        ) { one, estate in
            let open = try await estate.open(one, chosen: invocation.options("system"))
            var settings = ValidationSettings.make(estate.configuration)
            settings.only = try only(invocation, open)
            settings.trustedRoles += trusted
            let validator = try SchemaValidator(
                database: open.database, systems: try open.requireSystems().map(\.migrations), settings: settings,
                logger: estate.logger)
            let report = try await validator.validate()
            let live = invocation.has("live") ? try await validator.tryLive(report) : nil
            let isGood = report.differences.isEmpty && report.migrations.isEmpty && live?.failures.isEmpty != false
            return DatabaseScope.Report(
                json(report, live, isLossy: isLossy),
                text(report, live, isMending: isMending, isLossy: isLossy, invocation.console),
                isGood ? .done : .finding)
        }
    }

    /// Returns the systems named on the command line, without the systems that they require; nil if none is named.
    private static func only(_ invocation: Invocation, _ open: OpenDatabase) throws -> Set<String>? {
        let chosen = invocation.options("system")
        return chosen.isEmpty ? nil : Set(open.systems.prefix(chosen.count).map(\.name))
    }

    private static func isLossy(_ invocation: Invocation) throws -> Bool {
        guard invocation.has("lossy") else { return false }
        guard invocation.has("mend") || invocation.console.isJSON else {
            throw UsageError("--lossy requires --mend or --json", hint: "add --mend, or leave out --lossy")
        }
        return true
    }

    private static func text(
        _ report: SchemaReport, _ live: LiveReport?, isMending: Bool, isLossy: Bool, _ console: Console
    ) -> String {
        let text = DifferenceText(report, lossy: isLossy)
        for note in text.notes + (isMending ? text.migrations : []) { console.note(note) }
        var lines = [isMending ? text.script : text.lines]
        if let live { if isMending { console.note(live.text) } else { lines.append(live.text) } }
        return lines.joined(separator: "\n")
    }

    private static func json(_ report: SchemaReport, _ live: LiveReport?, isLossy: Bool) -> JSONValue {
        let differences = DifferenceText(report, lossy: isLossy).json
        let ignored = report.ignored.map { one -> JSONValue in
            var fields = DifferenceText.fields(one.difference)
            fields["reason"] = .string(one.entry.reason)
            return .object(fields)
        }
        var fields: [String: JSONValue] = [
            "equal": .bool(differences.isEmpty), "differences": .array(differences), "ignored": .array(ignored),
            "migrations": .array(
                report.migrations.map { system, finding in
                    [
                        "system": .string(system), "migration": .string(finding.subject),
                        "message": .string(finding.evidence), "hint": .string(finding.mend),
                    ]
                }),
        ]
        if let live { fields["live"] = live.json }
        return .object(fields)
    }

    static let diff = CommandSpec(
        noun: "schema", verb: "diff", summary: "compare two schemas",
        discussion: sources
            + " A is the expected schema and B the actual one; --mend prints SQL that changes B into A; with "
            + "--lossy also statements that lose rows or values, which are otherwise comments. Exits with 3 if they "
            + "differ.",
        arguments: [
            ArgumentSpec(name: "A", help: "the expected schema"),
            ArgumentSpec(name: "B", help: "the actual schema"),
        ],
        options: [schema, mend, lossy, .flag("ignore-owners", "do not compare owners")]
    ) { invocation in
        let words = invocation.arguments.positional
        let schemas = Set(invocation.options("schema").map(ExactText.init))
        let first = try await SchemaSource.open(words[0], schemas: schemas, invocation)
        let second = try await SchemaSource.open(words[1], schemas: schemas, invocation)
        let found = second.comparable(with: first)
        let expected = first.comparable(with: second).withPartitions(of: found, isNamed: first.names)
        var diff = CatalogDiff()
        diff.comparesOwners = !invocation.has("ignore-owners")
        let differences = diff.differences(expected: expected, found: found)
        let mender = Mender(
            expected: expected, found: found, owner: second.owner ?? first.owner ?? NSUserName())
        let text = DifferenceText(differences: differences, mender: mender, lossy: try isLossy(invocation))
        invocation.console.result(
            ["equal": .bool(differences.isEmpty), "differences": .array(text.json)],
            text: invocation.has("mend") ? text.script : text.lines, isExact: invocation.has("mend"))
        return differences.isEmpty ? .done : .finding
    }

    static let snapshot = CommandSpec(
        noun: "schema", verb: "snapshot", summary: "print a schema as canonical text, to commit and review",
        discussion: sources
            + " Without a source, prints the schemas of the database's systems as they are now. With --write, "
            + "replays the migrations of each system, and writes the result next to them as schema.snapshot. This file "
            + "can be reviewed with the migrations, and replaces the replay if no scratch database may be created.",
        arguments: [ArgumentSpec(name: "SOURCE", help: "the schema to print", isRequired: false)],
        options: [.system, schema, .flag("write", "write schema.snapshot next to the migrations of each system")],
        whenInterrupted: "no database was changed; some of the files may have been written"
    ) { invocation in
        if invocation.has("write") { return try await write(invocation) }
        let catalog = try await catalog(invocation.arguments.positional.first, invocation)
        let text = SchemaSnapshot.text(of: catalog)
        invocation.console.result(["snapshot": .string(text)], text: text, isExact: true)
        return .done
    }

    private static func write(_ invocation: Invocation) async throws -> ExitCode {
        let estate = try invocation.estate()
        guard let one = try estate.selected(invocation.option("database")).first else { return .done }
        let open = try await estate.open(one, chosen: invocation.options("system"))
        var settings = ValidationSettings.make(estate.configuration)
        settings.scratch = .always
        settings.only = try only(invocation, open)
        let validator = try SchemaValidator(
            database: open.database, systems: try open.requireSystems().map(\.migrations), settings: settings,
            logger: estate.logger)
        let paths = try await validator.writeSnapshots()
        invocation.console.result(
            ["files": .array(paths.map { .string($0) })], text: paths.joined(separator: "\n"), isExact: true)
        return .done
    }

    static let show = CommandSpec(
        noun: "schema", verb: "show", summary: "list the objects of the database, or show one in full",
        discussion:
            "Without OBJECT, lists the kinds and names of all objects. OBJECT is a name as in that list, with its "
            + "schema; * matches any characters.",
        arguments: [ArgumentSpec(name: "OBJECT", help: "for example posters.jobs", isRequired: false)],
        options: [.system, schema]
    ) { invocation in
        let catalog = try await catalog(nil, invocation)
        let report = SchemaListing(catalog: catalog, pattern: invocation.arguments.positional.first)
        guard let report else {
            throw UsageError(
                "'\(invocation.arguments.positional[0])' does not exist in any of these schemas: "
                    + "\(catalog.schemas.sorted().map(\.text).joined(separator: ", "))",
                hint: "list the objects with 'reeve schema show'")
        }
        invocation.console.result(report.json, text: report.text)
        return .done
    }

    /// Returns the catalog of the named source, or of the database's systems if no source is named.
    private static func catalog(_ source: String?, _ invocation: Invocation) async throws -> SchemaCatalog {
        let schemas = Set(invocation.options("schema").map(ExactText.init))
        if let source { return try await SchemaSource.open(source, schemas: schemas, invocation).catalog }
        let estate = try invocation.estate()
        guard let one = try estate.selected(invocation.option("database")).first else {
            throw UsageError("no database is configured")
        }
        let open = try await estate.open(one, chosen: invocation.options("system"))
        let chosen = invocation.options("system").count
        let systems = chosen > 0 ? Array(open.systems.prefix(chosen)) : open.systems
        let wanted = schemas.isEmpty ? Set(systems.map { ExactText($0.schema) }) : schemas
        var reader = CatalogReader(wanted.isEmpty ? .all : .schemas(wanted))
        reader.readsDependencies = true
        return try await open.database.withDirectConnection(named: "reeve schema") { [reader] connection in
            try await connection.with { try reader.read(on: $0) }
        }
    }
}
