import SQL

/// The statement before the rows of a table, as pg_dump and `TableSlice` write it. Pure: no I/O.
///
///     COPY public."Order" (id, "when") FROM stdin;
struct CopyHeader: Equatable {
    let table: FetchedTable
    /// Empty if the table has no columns.
    let columns: [String]

    /// Returns whether no quoted name continues after the end of the text.
    static func isWhole(_ text: [UInt8]) -> Bool {
        text.reduce(into: true) { if $1 == UInt8(ascii: "\"") { $0.toggle() } }
    }

    /// - Throws: `CopyFilter.Malformed`.
    init(_ text: [UInt8]) throws {
        var rest = NameScanner(text[...])
        guard rest.take("COPY "), let table = rest.table(), rest.take(" ") else {
            throw Self.malformed(text)
        }
        var columns: [String] = []
        if rest.take("(") {
            guard let names = rest.names(), rest.take(") ") else { throw Self.malformed(text) }
            columns = names
        } else {
            // pg_dump writes an empty list of columns between two spaces.
            _ = rest.take(" ")
        }
        guard rest.take("FROM stdin;\n"), rest.isAtEnd else { throw Self.malformed(text) }
        (self.table, self.columns) = (table, columns)
    }

    private static func malformed(_ text: [UInt8]) -> CopyFilter.Malformed {
        let line = String(decoding: text.prefix(200), as: UTF8.self)
        return CopyFilter.Malformed(description: "it has an unknown COPY statement: \(line.debugDescription)")
    }
}
