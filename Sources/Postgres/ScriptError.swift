import SQL

extension PostgresError {
    /// Returns the error with its place in the file that contains the statement: the position that the server reports,
    /// or else the beginning of the statement.
    public func located(in statement: SQLStatement, of source: [UInt8], file: String) -> PostgresError {
        guard kind == .server else { return self }
        var located = self
        var offset = statement.range.lowerBound
        if let position {
            // The server counts characters, but offsets in the file are bytes.
            let text = String(decoding: source[statement.range], as: UTF8.self)
            offset += text.unicodeScalars.prefix(position - 1).reduce(0) { $0 + String($1).utf8.count }
        }
        located.excerpt = SourceExcerpt(file: file, source: source, offset: offset)
        return located
    }
}
