import CLibpq
import Foundation

/// The rows of a result, stored as the text that the server sent.
public struct Rows: Sendable, RandomAccessCollection {
    /// The names of the columns, in order.
    public let columns: [String]
    public let tag: CommandTag
    private let index: [String: Int]
    private let bytes: [UInt8]
    /// The end of each cell in `bytes`. The indexes of NULL cells are in `nulls`.
    private let ends: [Int]
    private let nulls: Set<Int>
    /// The number of rows. A row may have no columns, as in `SELECT FROM t`.
    public let endIndex: Int

    init(columns: [String], tag: CommandTag, bytes: [UInt8], ends: [Int], nulls: Set<Int>, count: Int) {
        endIndex = count
        self.columns = columns
        self.tag = tag
        self.bytes = bytes
        self.ends = ends
        self.nulls = nulls
        index = Dictionary(columns.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
    }

    public var startIndex: Int { 0 }
    public subscript(position: Int) -> Row { Row(rows: self, number: position) }

    func position(of column: String) -> Int? { index[column] }

    func cell(_ row: Int, _ column: Int) -> ArraySlice<UInt8>? {
        let cell = row * columns.count + column
        if nulls.contains(cell) { return nil }
        return bytes[(cell == 0 ? 0 : ends[cell - 1])..<ends[cell]]
    }
}

/// One row of a result.
public struct Row: Sendable {
    let rows: Rows
    let number: Int

    /// Returns the value in the column with this name.
    ///
    /// - Throws: `PostgresError` of kind `badValue` if there is no such column, if the value does not have the type, or
    ///   if the value is NULL and the type is not optional.
    public func get<T: PostgresDecodable>(_ column: String, as type: T.Type = T.self) throws -> T {
        guard let position = rows.position(of: column) else {
            throw PostgresError(.badValue, "the result has no column '\(column)' (it has \(rows.columns))")
        }
        return try get(position, as: type)
    }

    /// Returns the value in the column at this position, from 0.
    public func get<T: PostgresDecodable>(_ column: Int, as type: T.Type = T.self) throws -> T {
        guard rows.columns.indices.contains(column) else {
            throw PostgresError(.badValue, "the result has no column \(column) (it has \(rows.columns.count))")
        }
        do {
            guard let cell = rows.cell(number, column) else { return try T.fromPostgresNull() }
            guard let text = String(validating: cell, as: UTF8.self) else {
                throw PostgresError(
                    .badValue, "the value is not UTF-8", hint: "the database's encoding may be SQL_ASCII")
            }
            return try T.fromPostgres(text)
        } catch var error as PostgresError {
            error.message = "column '\(rows.columns[column])': \(error.message)"
            throw error
        }
    }
}

/// Collects the results of a statement, one row at a time.
struct RowCollector {
    let limit: Int
    private var columns: [String]?
    private var tag = CommandTag("")
    private var bytes: [UInt8] = []
    private var ends: [Int] = []
    private var nulls: Set<Int> = []
    private var count = 0

    init(limit: Int) { self.limit = limit }

    var rows: Rows { Rows(columns: columns ?? [], tag: tag, bytes: bytes, ends: ends, nulls: nulls, count: count) }

    mutating func take(_ result: OpaquePointer) throws {
        tag = CommandTag(String(cString: PQcmdStatus(result)))
        let width = PQnfields(result)
        if columns == nil || columns?.count != Int(width) {
            columns = (0..<width).map { String(cString: PQfname(result, $0)) }
        }
        count += Int(PQntuples(result))
        for row in 0..<PQntuples(result) {
            for column in 0..<width {
                if PQgetisnull(result, row, column) == 1 {
                    nulls.insert(ends.count)
                } else if let value = PQgetvalue(result, row, column) {
                    let count = Int(PQgetlength(result, row, column))
                    value.withMemoryRebound(to: UInt8.self, capacity: count) {
                        bytes.append(contentsOf: UnsafeBufferPointer(start: $0, count: count))
                    }
                }
                ends.append(bytes.count)
            }
        }
        if bytes.count + ends.count * 8 > limit {
            throw PostgresError(
                .resultTooLarge, "the result is larger than \(limit) bytes", hint: "request fewer rows at a time")
        }
    }
}
