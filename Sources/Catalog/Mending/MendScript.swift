/// SQL that takes what was found to what is expected, in an order that runs.
public struct MendScript: Sendable, Equatable {
    public struct Statement: Sendable, Equatable {
        public let sql: String
        /// What whoever runs it should know, in one line.
        public let note: String?
    }

    public var statements: [Statement] = []

    public init() {}

    public var isEmpty: Bool { statements.isEmpty }

    mutating func add(_ sql: String, note: String? = nil) { statements.append(Statement(sql: sql, note: note)) }

    mutating func add(_ all: [String], note: String? = nil) { for sql in all { add(sql, note: note) } }

    /// As a script: each statement with its semicolon, after its note.
    public var text: String {
        statements.map { ($0.note.map { "-- \($0)\n" } ?? "") + $0.sql + ";\n" }.joined()
    }
}
