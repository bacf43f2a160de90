import Backups
import Kernel
import Reporting
import SQL

/// The command `reeve backup find`.
enum FindCommand {
    static let spec = CommandSpec(
        noun: "backup", verb: "find",
        summary: "show in which backups a table has how many rows, and what changed between two backups",
        discussion:
            "Lists the backups, the newest first, with the number of rows of the table in each, and whether its rows "
            + "are the same as in the backup before. At the end stands the command that restores the table from the "
            + "newest backup in which it has rows.\n\n"
            + "With --where, also counts the rows that match an SQL condition. Each different content of the table is "
            + "loaded once into a temporary cluster for this. The condition may use the columns that are not "
            + "generated, and built-in functions and types; columns of other types, such as enums, are texts there.\n\n"
            + "With two backups FROM and TO, shows which rows were added, removed and changed between them. Rows are "
            + "identified by the primary key. In a table without one, a changed row counts as removed and added.",
        arguments: [
            ArgumentSpec(name: "FROM", help: "the ID of a backup to compare", isRequired: false),
            ArgumentSpec(name: "TO", help: "the ID of a later backup, or 'latest'", isRequired: false),
        ],
        options: [
            .option("table", "TABLE", "the table, as SCHEMA.TABLE, or TABLE if its name is unique"),
            .option("where", "CONDITION", "count the rows that match this SQL condition"),
            BackupScope.identity, BackupScope.repository,
        ]
    ) { invocation in
        guard let table = invocation.option("table") else {
            throw UsageError("'reeve backup find' requires --table TABLE")
        }
        let ids = invocation.arguments.positional
        if ids.count == 1 {
            throw UsageError("a comparison requires two backups", hint: "write 'reeve backup find FROM TO --table …'")
        }
        if !ids.isEmpty, invocation.option("where") != nil {
            throw UsageError("--where cannot be combined with two backups")
        }
        return try await BackupScope.forEach(invocation) { work in
            let finder = try await finder(work, invocation)
            let history = try await finder.history(of: table)
            let progress = BackupScope.progress(invocation.console, "read")
            if ids.count == 2 {
                let known = try ids.map { id in
                    guard id == "latest" else { return id }
                    guard let newest = history.entries.first?.backup else { throw BackupError.unknown(id: id) }
                    return newest
                }
                let difference = try await finder.difference(
                    from: known[0], to: known[1], of: history, progress: progress)
                return DatabaseScope.Report(
                    FoundText.value(difference, history.table, known),
                    FoundText.text(difference, history.table, known))
            }
            var matches: [String: Int]?
            if let condition = invocation.option("where") {
                matches = try await finder.matches(condition, of: history, progress: progress)
            }
            return DatabaseScope.Report(FoundText.value(history, matches), FoundText.text(history, matches))
        }
    }

    /// Reads the manifests of the repositories. Backups that cannot be relied on are left out.
    private static func finder(_ work: BackupWork, _ invocation: Invocation) async throws -> TableFinder {
        let note: BackupWork.Note = { invocation.console.note($0) }
        let evidence = await work.evidence(note)
        var found: [(repository: Repository, manifests: [Manifest])] = []
        for repository in try BackupScope.repositories(invocation, work) {
            let review = RepositoryReview(of: try await repository.contents(of: work.open.name), against: evidence)
            for problem in review.problems { note("warning: \(repository.store.place): \(problem)") }
            for id in review.unrecorded.sorted() { note("warning: \(RepositoryProblem.unrecorded(id: id))") }
            found.append((repository, review.sound.map(\.manifest)))
        }
        return TableFinder(
            found,
            settings: BackupSettings.restorer(work.configuration, identity: try BackupScope.identity(invocation)),
            folder: work.scratchFolder, beside: work.open.database.direct, logger: work.logger)
    }
}

/// The text and JSON forms of what `reeve backup find` has found.
enum FoundText {
    /// The newest backup with rows, or with matching rows if a condition was given.
    private static func newest(_ history: TableHistory, _ matches: [String: Int]?) -> TableHistory.Entry? {
        guard let matches else { return history.newestWithRows }
        return history.entries.first { matches[$0.backup] ?? 0 > 0 }
    }

    private static func restore(_ history: TableHistory, _ matches: [String: Int]?) -> String? {
        newest(history, matches).map {
            "reeve backup restore \($0.backup) --table \(quoteShell(history.table)) --to URL"
        }
    }

    static func value(_ history: TableHistory, _ matches: [String: Int]?) -> JSONValue {
        [
            "table": .string(history.table),
            "backups": .array(
                history.entries.map { entry in
                    var fields: [String: JSONValue] = [
                        "id": .string(entry.backup), "taken_at": .string(entry.takenAt), "rows": .int(entry.rows),
                        "change": .string(entry.change.rawValue),
                    ]
                    if let matches { fields["matching"] = .int(matches[entry.backup]) }
                    return .object(fields)
                }),
            "restore": .string(restore(history, matches)),
        ]
    }

    static func text(_ history: TableHistory, _ matches: [String: Int]?) -> String {
        if history.entries.isEmpty { return "no backups" }
        var table = TextTable(["ID", "TAKEN", "ROWS"] + (matches == nil ? [] : ["MATCHING"]) + ["CONTENT"])
        for entry in history.entries {
            let matching = matches.map { [$0[entry.backup].map(String.init) ?? "-"] } ?? []
            table.add(
                [entry.backup, entry.takenAt, entry.rows.map(String.init) ?? "-"] + matching + [words(entry.change)])
        }
        guard let command = restore(history, matches) else {
            let what = matches == nil ? "rows of \(history.table)" : "rows of \(history.table) that match"
            return table.text + "\nNo backup has \(what)."
        }
        return table.text + "\nTo restore the table from the newest backup that has such rows:\n  \(command)\n"
            + "If the table exists in that database, add --into-schema SCHEMA."
    }

    private static func words(_ change: TableHistory.Entry.Change) -> String {
        switch change {
        case .new: "first backup of the table"
        case .same: "same as before"
        case .changed: "changed"
        case .unknown: "not known: hashed in another way"
        case .absent: "the table does not exist"
        }
    }

    static func value(_ difference: RowDifference, _ table: String, _ ids: [String]) -> JSONValue {
        func rows(_ rows: RowDifference.Rows) -> JSONValue {
            [
                "count": .int(rows.count),
                "first": .array(
                    rows.first.map { row in
                        .object(Dictionary(zip(difference.key, row.map { .string($0) })) { one, _ in one })
                    }),
            ]
        }
        return [
            "table": .string(table), "from": .string(ids[0]), "to": .string(ids[1]),
            "key": .array(difference.key.map { .string($0) }), "keyed": .bool(difference.isKeyed),
            "added": rows(difference.added), "removed": rows(difference.removed), "changed": rows(difference.changed),
            "new_columns": .array(difference.newColumns.map { .string($0) }),
            "gone_columns": .array(difference.goneColumns.map { .string($0) }),
        ]
    }

    static func text(_ difference: RowDifference, _ table: String, _ ids: [String]) -> String {
        func lines(_ rows: RowDifference.Rows, _ word: String) -> [String] {
            let more = rows.count > rows.first.count ? ["  …"] : []
            return ["\(word): \(counted(rows.count, "row"))"]
                + rows.first.map { row in
                    "  "
                        + zip(difference.key, row).map { "\(visible($0)) = \($1.map { visible($0) } ?? "NULL")" }
                        .joined(separator: ", ")
                } + more
        }
        var text = ["\(table), from \(ids[0]) to \(ids[1])"]
        text += lines(difference.added, "added") + lines(difference.removed, "removed")
        if difference.isKeyed { text += lines(difference.changed, "changed") }
        if !difference.newColumns.isEmpty { text.append("new columns: \(list(difference.newColumns))") }
        if !difference.goneColumns.isEmpty { text.append("dropped columns: \(list(difference.goneColumns))") }
        if !difference.isKeyed {
            text.append("The table has no primary key, so a changed row counts as removed and added.")
        }
        return text.joined(separator: "\n")
    }

    private static func list(_ names: [String]) -> String { names.map { visible($0) }.joined(separator: ", ") }
}
