import Foundation
import Postgres
import Reporting
import Synchronization

/// The output of a command: data on standard output, everything else on standard error.
public struct Console: Sendable {
    public let isJSON: Bool
    public let isTerminal: Bool
    public let usesColour: Bool

    public init(isJSON: Bool, environment: [String: String]) {
        self.isJSON = isJSON
        isTerminal = isatty(STDOUT_FILENO) == 1
        usesColour =
            isatty(STDERR_FILENO) == 1 && environment["NO_COLOR", default: ""].isEmpty
            && environment["TERM"] != "dumb"
    }

    /// Prints the result of a command: one JSON object with `--json`, otherwise text. Control characters in the text
    /// are escaped, even in a file or a pipe, because its content may be shown on a terminal later.
    ///
    /// - Parameter isExact: whether a file or a pipe receives the exact text, because a program reads it.
    public func result(
        _ json: @autoclosure () -> JSONValue, text: @autoclosure () -> String, isExact: Bool = false
    ) {
        var output = isJSON ? json().text : isExact && !isTerminal ? text() : visible(text(), keepsLines: true)
        if !isJSON, !isExact, let columns = TextWrapping.columns(of: STDOUT_FILENO) {
            output = TextWrapping.wrap(output, width: columns)
        }
        if output.isEmpty { return }
        Self.write(output.hasSuffix("\n") ? output : output + "\n", to: STDOUT_FILENO)
    }

    /// Prints a message for people on standard error. Control characters are escaped.
    public func note(_ text: String) { note(text, after: "") }

    /// - Parameter label: the beginning of the message, which may be coloured.
    private func note(_ text: String, after label: String, colour: (String) -> String = { $0 }) {
        var shown = label + visible(text, keepsLines: true)
        if let columns = TextWrapping.columns(of: STDERR_FILENO) { shown = TextWrapping.wrap(shown, width: columns) }
        Self.write(colour(label) + shown.dropFirst(label.count) + "\n", to: STDERR_FILENO)
    }

    /// Prints a progress message, on a terminal only.
    public func progress(_ text: String) {
        if isatty(STDERR_FILENO) == 1, !isJSON { note(text) }
    }

    /// Prints why a command failed.
    public func error(_ message: String, code: String, hint: String?) {
        if isJSON {
            let value: JSONValue = [
                "error": ["code": .string(code), "message": .string(message), "hint": .string(hint)]
            ]
            Self.write(value.text + "\n", to: STDOUT_FILENO)
            return
        }
        note(message, after: "error: ") { usesColour ? "\u{1B}[31merror:\u{1B}[0m " : $0 }
        if let hint { note("hint: \(hint)") }
    }

    /// Prints that a command was interrupted, and what it had done.
    ///
    /// - Parameter mayWait: whether to wait until the reader of the output reads. If false, and the output cannot be
    ///   written immediately, nothing is printed.
    public func interrupted(_ message: String, mayWait: Bool = true) {
        let descriptor = isJSON ? STDOUT_FILENO : STDERR_FILENO
        if !mayWait {
            var polls = [pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)]
            guard poll(&polls, 1, 0) == 1, polls[0].revents & Int16(POLLOUT) != 0 else { return }
        }
        if isJSON { error(message, code: "interrupted", hint: nil) } else { note(message) }
    }

    public static func write(_ text: String, to descriptor: Int32) {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Foundation.write(descriptor, $0.baseAddress, $0.count) }
            if count >= 0 {
                rest = rest.dropFirst(count)
            } else if errno == EAGAIN || errno == EWOULDBLOCK {
                // Another process has made the descriptor non-blocking: wait until it can be written.
                var polls = [pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)]
                _ = poll(&polls, 1, -1)
            } else if errno != EINTR {
                return  // cannot be written, for instance because the reader has closed the pipe
            }
        }
    }
}

/// A table whose columns are as wide as their widest cell. On a terminal, the cells of the widest columns are wrapped,
/// so that the table fits.
public struct TextTable {
    private var rows: [[String]]

    public init(_ header: String...) { rows = [header] }
    public init(_ header: [String]) { rows = [header] }

    public mutating func add(_ cells: String...) { add(cells) }
    /// Adds a row. Line ends and control characters in a cell are escaped, so that each cell is on one line.
    public mutating func add(_ cells: [String]) { rows.append(cells.map { visible($0) }) }

    public var text: String { text(columns: TextWrapping.columns(of: STDOUT_FILENO)) }

    /// - Parameter columns: the width of the terminal; nil for a file or a pipe.
    func text(columns: Int?) -> String {
        var widths = (rows.first ?? []).indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        if let columns { widths = TextWrapping.fit(widths, gap: 2, into: columns) }
        return rows.flatMap { row in
            let cells = zip(row, widths).map { columns == nil ? [$0] : TextWrapping.cell($0, width: $1) }
            return (0..<(cells.map(\.count).max() ?? 0)).map { line in
                let parts = zip(cells, widths).map { cell, width in
                    let part = cell.indices.contains(line) ? cell[line] : ""
                    return part + String(repeating: " ", count: max(0, width - part.count))
                }
                return String(parts.joined(separator: "  ").reversed().drop { $0 == " " }.reversed())
            }
        }.joined(separator: "\n")
    }
}
