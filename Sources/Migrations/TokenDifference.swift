import Postgres
import SQL

/// The first difference between the tokens of an applied migration and the tokens of its file.
struct TokenDifference: CustomStringConvertible {
    let description: String

    /// - Returns: nil if the texts have the same tokens, or if one of them cannot be scanned.
    init?(applied: String, script: MigrationScript) {
        let old = Array(applied.utf8)
        guard let before = try? SQLLexer.tokens(of: old), let after = try? SQLLexer.tokens(of: script.source) else {
            return nil
        }
        let texts = { (source: [UInt8], token: SQLToken) in String(decoding: source[token.range], as: UTF8.self) }
        var index = 0
        while index < before.count, index < after.count,
            texts(old, before[index]) == texts(script.source, after[index])
        {
            index += 1
        }
        if index == before.count, index == after.count { return nil }
        let was = index < before.count ? "'\(texts(old, before[index]).prefix(60))'" : "the end"
        let isNow = index < after.count ? "'\(texts(script.source, after[index]).prefix(60))'" : "the end"
        let offset = index < after.count ? after[index].range.lowerBound : script.source.count
        let excerpt = SourceExcerpt(file: script.path, source: script.source, offset: offset)
        description =
            "\(excerpt.location): the applied migration had \(was) here, but the file has \(isNow)\n\(excerpt.drawing)"
    }
}
