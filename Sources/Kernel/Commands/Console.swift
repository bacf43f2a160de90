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

    /// Prints the result of a command: one JSON object with `--json`, otherwise text.
    public func result(_ json: @autoclosure () -> JSONValue, text: @autoclosure () -> String) {
        // A terminal interprets control characters in names, so they are escaped there. A file or a pipe receives the
        // exact text.
        let output = isJSON ? json().text : isTerminal ? visible(text(), keepsLines: true) : text()
        if output.isEmpty { return }
        Self.write(output.hasSuffix("\n") ? output : output + "\n", to: STDOUT_FILENO)
    }

    /// Prints a message for people on standard error. Control characters are escaped even in a file or a pipe, because
    /// the content of a file or a pipe may be shown on a terminal later.
    public func note(_ text: String) {
        Self.write(visible(text, keepsLines: true) + "\n", to: STDERR_FILENO)
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
        Self.write(usesColour ? "\u{1B}[31merror:\u{1B}[0m " : "error: ", to: STDERR_FILENO)
        note(message)
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

/// A table whose columns are as wide as their widest cell.
public struct TextTable {
    private var rows: [[String]]

    public init(_ header: String...) { rows = [header] }
    public init(_ header: [String]) { rows = [header] }

    public mutating func add(_ cells: String...) { add(cells) }
    /// Adds a row. Line ends and control characters in a cell are escaped, so that each cell is on one line.
    public mutating func add(_ cells: [String]) { rows.append(cells.map { visible($0) }) }

    public var text: String {
        let widths = (rows.first ?? []).indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            let cells = zip(row, widths).map { $0 + String(repeating: " ", count: max(0, $1 - $0.count)) }
            return String(cells.joined(separator: "  ").reversed().drop { $0 == " " }.reversed())
        }.joined(separator: "\n")
    }
}
