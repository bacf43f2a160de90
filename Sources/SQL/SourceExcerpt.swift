/// A place in a file, with the text of its line.
public struct SourceExcerpt: Sendable, Equatable {
    public let file: String
    /// The number of the line, from 1.
    public let line: Int
    /// The column in characters, from 1.
    public let column: Int
    /// The text of the line, without its line end.
    public let text: String

    /// `file:line:column`
    public var location: String { "\(file):\(line):\(column)" }

    /// The line, with a caret under the column. A long line is cut around the column.
    public var drawing: String {
        let characters = Array(text)
        let from = column > 100 ? column - 60 : 0
        let shown = characters.dropFirst(from).prefix(140)
        let before = characters.dropFirst(from).prefix(max(0, column - 1 - from))
        let padding = String(before.map { $0 == "\t" ? "\t" : " " })
        return "    \(String(shown))\n    \(padding)^"
    }
}

extension SourceExcerpt {
    /// The place that is `offset` bytes after the start of `source`, which is UTF-8.
    public init(file: String, source: [UInt8], offset: Int) {
        let offset = max(0, min(offset, source.count))
        let newline = UInt8(ascii: "\n")
        let start = source[..<offset].lastIndex(of: newline).map { $0 + 1 } ?? 0
        let end = source[offset...].firstIndex(of: newline) ?? source.count
        self.file = file
        self.line = source[..<start].count { $0 == newline } + 1
        self.column = String(decoding: source[start..<offset], as: UTF8.self).count + 1
        var text = String(decoding: source[start..<end], as: UTF8.self)
        if text.hasSuffix("\r") { text.removeLast() }
        self.text = text
    }
}
