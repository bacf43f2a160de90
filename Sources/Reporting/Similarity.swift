/// Returns the known word that was most likely meant; nil if no known word is similar. Capitals do not count.
public func closest(to word: String, among known: [String]) -> String? {
    let word = word.lowercased()
    let near = known.map { ($0, editDistance(word, $0.lowercased())) }.min { $0.1 < $1.1 }
    guard let near, near.1 <= max(1, near.0.count / 3) else { return nil }
    return near.0
}

/// Returns a hint with the known word that was most likely meant; nil if no known word is similar.
public func didYouMean(_ word: String, among known: [String]) -> String? {
    closest(to: word, among: known).map { "did you mean '\($0)'" }
}

/// Returns the edit distance: the least number of insertions, deletions, replacements and swaps of adjacent characters
/// (optimal string alignment).
func editDistance(_ left: String, _ right: String) -> Int {
    let a = Array(left)
    let b = Array(right)
    var rows = [Array(0...b.count)]
    for i in 1...max(a.count, 1) where i <= a.count {
        var row = [i]
        for j in 1...max(b.count, 1) where j <= b.count {
            let replaced = rows[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)
            var best = min(replaced, rows[i - 1][j] + 1, row[j - 1] + 1)
            if i > 1, j > 1, a[i - 1] == b[j - 2], a[i - 2] == b[j - 1] { best = min(best, rows[i - 2][j - 2] + 1) }
            row.append(best)
        }
        rows.append(row)
    }
    return rows[a.count][b.count]
}
