import Backups
import Kernel
import Reporting
import SQL

/// The text and JSON forms of the backups of a table that `reeve backup find` has found.
struct FoundText {
    let history: TableHistory
    /// The numbers of matching rows, by backup; nil if no condition was given.
    let matches: [String: Int]?
    /// The options of the command that restores the table.
    let options: String

    /// The newest backup with rows, or with matching rows if a condition was given.
    private var newest: TableHistory.Entry? {
        guard let matches else { return history.newestWithRows }
        return history.entries.first { matches[$0.backup] ?? 0 > 0 }
    }

    private var restore: String? {
        newest.map {
            "reeve backup restore \($0.backup) --table \(quoteShell(history.table)) --to URL\(options)"
        }
    }

    var value: JSONValue {
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
            "restore": .string(restore),
        ]
    }

    var text: String {
        if history.entries.isEmpty { return "no backups" }
        var table = TextTable(["ID", "TAKEN", "ROWS"] + (matches == nil ? [] : ["MATCHING"]) + ["CONTENT"])
        for (number, entry) in history.entries.enumerated() {
            let matching = matches.map { [$0[entry.backup].map(String.init) ?? "-"] } ?? []
            let before = history.entries.dropFirst(number + 1).first?.rows
            table.add(
                [entry.backup, entry.takenAt, entry.rows.map(String.init) ?? "-"] + matching
                    + [Self.words(entry, before: before)])
        }
        guard let restore else {
            let what = matches == nil ? "rows of \(history.table)" : "rows of \(history.table) that match"
            return table.text + "\nNo backup has \(what)."
        }
        return table.text + "\nTo restore the table from the newest backup that has such rows:\n  \(restore)\n"
            + "If the table exists in that database, add --into-schema SCHEMA."
    }

    private static func words(_ entry: TableHistory.Entry, before: Int?) -> String {
        switch entry.change {
        case .new: "first backup of the table"
        case .same: "same as before"
        case .changed:
            switch (entry.rows ?? 0) - (before ?? 0) {
            case 0: "changed"
            case let more where more > 0: "changed, \(counted(more, "row")) more"
            case let more: "changed, \(counted(-more, "row")) fewer"
            }
        case .unknown: "not known: hashed in another way"
        case .absent: "the table does not exist"
        }
    }
}
