extension PostgresError {
    /// The error with its place in the file that the statement stands in: where the server points, or else where the
    /// statement begins.
    public func located(in statement: SQLStatement, of source: [UInt8], file: String) -> PostgresError {
        guard kind == .server else { return self }
        var located = self
        var offset = statement.range.lowerBound
        if let position {
            // The server counts characters, the file bytes.
            let text = String(decoding: source[statement.range], as: UTF8.self)
            offset += text.unicodeScalars.prefix(position - 1).reduce(0) { $0 + String($1).utf8.count }
        }
        located.excerpt = SourceExcerpt(file: file, source: source, offset: offset)
        return located
    }
}
