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
                    RowDifferenceText.value(difference, history.table, known),
                    RowDifferenceText.text(difference, history.table, known))
            }
            var matches: [String: Int]?
            if let condition = invocation.option("where") {
                matches = try await finder.matches(condition, of: history, progress: progress)
            }
            let found = FoundText(history: history, matches: matches, options: restoring(invocation))
            return DatabaseScope.Report(found.value, found.text)
        }
    }

    /// Returns the options that a restore requires, too.
    private static func restoring(_ invocation: Invocation) -> String {
        ["identity", "repository"].compactMap { name in
            invocation.option(name).map { " --\(name) \(quoteShell($0))" }
        }.joined()
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
