import Backups
import Kernel
import Reporting
import SQL

/// The text and JSON forms of a comparison of two backups by `reeve backup find`.
enum RowDifferenceText {
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
