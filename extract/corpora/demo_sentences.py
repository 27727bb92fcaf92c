"""The sentences of the demo corpus: everyday sentences that carry no emotion, the same eight in six languages."""

SENTENCES: dict[str, tuple[str, ...]] = {
    "en": (
        "The early train leaves from platform two, a little after seven.",
        "We left the blue umbrella on the chair, beside the kitchen door.",
        "My neighbour waters the plants every second evening in the summer.",
        "There are eleven letters in the wooden box under the stairs.",
        "The library opens at nine, and closes when it gets dark.",
        "She bought some bread and a bag of apples on the way home.",
        "The bridge near the market is painted green on both sides.",
        "He wrote the number on a piece of paper, and put it away.",
    ),
    "de": (
        "Der frühe Zug fährt kurz nach sieben von Gleis zwei ab.",
        "Wir haben den blauen Schirm auf dem Stuhl neben der Küchentür gelassen.",
        "Meine Nachbarin gießt im Sommer jeden zweiten Abend die Pflanzen.",
        "In der Holzkiste unter der Treppe liegen elf Briefe.",
        "Die Bücherei öffnet um neun, und schließt, wenn es dunkel wird.",
        "Sie hat auf dem Heimweg ein Brot gekauft, und eine Tüte Äpfel.",
        "Die Brücke am Markt ist auf beiden Seiten grün gestrichen.",
        "Er hat die Nummer auf einen Zettel geschrieben und ihn eingesteckt.",
    ),
    "hu": (
        "A korai vonat a kettes vágányról indul, kicsivel hét után.",
        "A kék esernyőt a széken hagytuk, a konyhaajtó mellett.",
        "A szomszédom nyáron minden második este megöntözi a virágokat.",
        "A lépcső alatt, a fadobozban tizenegy levél van.",
        "A könyvtár kilenckor nyit, és akkor zár, amikor besötétedik.",
        "Hazafelé menet kenyeret vett, és egy zacskó almát.",
        "A piac melletti híd mindkét oldalon zöldre van festve.",
        "Felírta a számot egy darab papírra, és eltette.",
    ),
    "el": (
        "Το πρωινό τρένο φεύγει από τη γραμμή δύο, λίγο μετά τις επτά.",
        "Αφήσαμε την μπλε ομπρέλα πάνω στην καρέκλα, δίπλα στην πόρτα.",
        "Το καλοκαίρι ποτίζει τα φυτά κάθε δεύτερο βράδυ.",
        "Υπάρχουν έντεκα γράμματα στο ξύλινο κουτί, κάτω από τη σκάλα.",
        "Η βιβλιοθήκη ανοίγει στις εννέα, και κλείνει όταν σκοτεινιάζει.",
        "Αγόρασε ψωμί και μια σακούλα μήλα, γυρίζοντας στο σπίτι.",
        "Η γέφυρα κοντά στην αγορά είναι πράσινη και από τις δύο πλευρές.",
        "Έγραψε τον αριθμό σε ένα χαρτί, και το έβαλε στην τσέπη.",
    ),
    "sr": (
        "Rani voz polazi sa drugog koloseka, malo posle sedam.",
        "Ostavili smo plavi kišobran na stolici, pored kuhinjskih vrata.",
        "Moja komšinica leti svake druge večeri zaliva biljke.",
        "U drvenoj kutiji ispod stepenica ima jedanaest pisama.",
        "Biblioteka se otvara u devet, i zatvara se kada padne mrak.",
        "Na putu do kuće kupila je hleb i kesu jabuka.",
        "Most blizu pijace ofarban je u zeleno sa obe strane.",
        "Zapisao je broj na parče papira, i odložio ga.",
    ),
    # Words are set apart here so that each gets its time; the manifest's text joins them again.
    "cmn": (
        "早班 火车 七点 刚 过 从 二号 站台 出发。",
        "我们 把 蓝色 雨伞 放在 厨房 门口 的 椅子 上。",
        "夏天 我 的 邻居 每 两天 给 花 浇水。",
        "楼梯 下面 的 木 盒子 里 有 十一 封 信。",
        "图书馆 九点 开门， 天 黑 了 就 关门。",
        "她 在 回家 的 路上 买了 面包 和 一袋 苹果。",
        "市场 旁边 的 桥 两边 都 漆成 了 绿色。",
        "他 把 号码 写在 一张 纸 上， 然后 收了 起来。",
    ),
}
"""By eSpeak voice, which is also the manifest's language (BCP 47)."""

CULTURES = {"en": "british", "de": "german", "hu": "hungarian", "el": "greek", "sr": "serbian", "cmn": "chinese"}
"""The six cultures of SEWA, by language."""

UNSPACED = frozenset({"cmn"})
"""Languages written without spaces."""
