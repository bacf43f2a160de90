import Foundation
import Postgres
import Synchronization

/// Where a command writes: data on standard output, all else on standard error.
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

    /// Prints the result of a command: one object with `--json`, else text.
    public func result(_ json: @autoclosure () -> JSONValue, text: @autoclosure () -> String) {
        // A terminal obeys what is in a name; a file or a pipe gets it as it is.
        let output = isJSON ? json().text : isTerminal ? visible(text(), keepsLines: true) : text()
        if output.isEmpty { return }
        Self.write(output.hasSuffix("\n") ? output : output + "\n", to: STDOUT_FILENO)
    }

    /// Says something beside the result, for people: a file or a pipe is shown on a terminal later.
    public func note(_ text: String) {
        Self.write(visible(text, keepsLines: true) + "\n", to: STDERR_FILENO)
    }

    /// Shows what goes on, on a terminal only.
    public func progress(_ text: String) {
        if isatty(STDERR_FILENO) == 1, !isJSON { note(text) }
    }

    /// Says why a command failed.
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
        if let hint, !message.contains("\nhint: ") { note("hint: \(hint)") }
    }

    /// Says that a command was interrupted, and how far it had come.
    ///
    /// - Parameter mayWait: whether to wait for a reader that does not read.
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
            if count > 0 {
                rest = rest.dropFirst(count)
            } else if errno != EINTR {
                return  // whoever read it has gone
            }
        }
    }
}

/// Lines up columns, as wide as their widest cell.
public struct TextTable {
    private var rows: [[String]]

    public init(_ header: String...) { rows = [header] }
    public init(_ header: [String]) { rows = [header] }

    public mutating func add(_ cells: String...) { add(cells) }
    /// A cell stays on its line, whatever is in it.
    public mutating func add(_ cells: [String]) { rows.append(cells.map { visible($0) }) }

    public var text: String {
        let widths = (rows.first ?? []).indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            let cells = zip(row, widths).map { $0 + String(repeating: " ", count: max(0, $1 - $0.count)) }
            return String(cells.joined(separator: "  ").reversed().drop { $0 == " " }.reversed())
        }.joined(separator: "\n")
    }
}
